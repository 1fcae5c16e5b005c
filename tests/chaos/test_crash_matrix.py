"""A worker dies, fails or is stopped at each step of the SQLite broker; nothing gets lost.

All cases run at the same time, a few processes each, since most of their time is spent waiting.
"""

from __future__ import annotations

import re
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

import dramatiq
from tests.chaos.harness import open_site
from tests.chaos.program import declare, make_broker

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]

#: How long a stopped process is stopped: six times as long as others take to notice a death.
STOPPED_S = 3.0
#: Cases at a time.
CONCURRENCY = 8

#: A lost reply, which makes a worker give back what it did not know of.
LOST_REPLY = "sqlite.take.after_commit=raise@1"


class Step(NamedTuple):
    """Where it happens: at which hit, in which kind of process, and what else is needed for it."""

    failpoint: str
    hit: int = 1
    #: ``work``, ``stop`` (a worker that is asked to stop), ``sweep`` (one that finds another
    #: dead), or ``produce``.
    role: str = "work"
    also: str = ""
    actions: tuple[str, ...] = ("stop", "kill", "raise")

    def __str__(self):
        return f"{self.failpoint}@{self.hit}"


STEPS = [
    Step("sqlite.join.before_write"),
    Step("sqlite.join.before_commit"),
    *(
        Step(f"sqlite.{name}", hit)
        for name in ("before_begin", "before_commit", "after_commit")
        for hit in (1, 3, 6)
    ),
    Step("sqlite.take.before_lease", 2),
    Step("sqlite.take.before_commit", 1),
    Step("sqlite.take.before_commit", 3),
    Step("sqlite.take.after_commit", 2),
    Step("sqlite.settle.before_move"),
    Step("sqlite.settle.before_follow_ups", 2),
    Step("sqlite.settle.before_commit"),
    Step("sqlite.settle.before_commit", 3),
    Step("sqlite.bury.before_commit"),
    Step("sqlite.give_back.before_commit", also=LOST_REPLY),
    Step("sqlite.leave.before_unlock", role="stop", actions=("stop", "kill")),  # nothing can fail
    Step("sqlite.reclaim.before_delete", role="stop"),
    Step("sqlite.reclaim.before_delete", role="sweep"),
    Step("sqlite.reclaim.before_commit", role="sweep"),
    Step("sqlite.enqueue.before_commit", 3, role="produce"),
    Step("sqlite.before_commit", 4, role="produce"),
    Step("sqlite.after_commit", 4, role="produce"),
]

#: What is sent before the fault.
WORK = range(1, 25)
FAIL_ONCE = range(101, 105)
PASS_ON = range(201, 204)
PASSED_ON = range(1201, 1204)
DEAD = range(301, 303)
DELAYED = range(401, 403)
#: What the producer sends, whose fault is in between.
SENT = range(501, 511)


def test_every_failpoint_of_the_broker_is_in_the_matrix():
    source = Path(dramatiq.__file__).parent
    found = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r'\bhit\(\s*"(sqlite\.[a-z_.]+)"', path.read_text())
    }

    assert found == {step.failpoint for step in STEPS}


def fill(site):
    """Send some of everything, and add a row that nobody can decode."""
    broker = make_broker(site.database)
    actors = declare(broker, site.ledger.path)
    actors["work"].send_many([(number, number % 5) for number in WORK])
    actors["fail_once"].send_many([(number,) for number in FAIL_ONCE])
    for number in PASS_ON:
        steps = [actors["pass_on"].message(number), actors["work"].message()]
        dramatiq.pipeline(steps, broker=broker).run()
    actors["fail"].send_many([(number,) for number in DEAD])
    for number in DELAYED:
        actors["work"].send_with_options(args=(number,), delay=200)
    broker.close()
    with closing(sqlite3.connect(site.database)) as connection, connection:
        connection.execute(
            "INSERT INTO messages (did, queue, state, prio, position, payload) "
            "VALUES (x'00', 'default', 0, 0, 0, '{\"not\": \"a message\"}')"
        )


def start(site, step, action):
    """Start the process with the fault, and bring it to where it happens."""
    failpoints = f"{step.failpoint}={action}@{step.hit}"
    if step.also:
        failpoints = f"{failpoints},{step.also}"
    if step.role == "produce":
        return site.start("produce", SENT[0], len(SENT), failpoints=failpoints)
    if step.role == "work":
        return site.start("work", 4, failpoints=failpoints)
    if step.role == "stop":
        program = site.start_worker(failpoints=failpoints)
        program.send(signal.SIGTERM)
        return program
    victim = site.start_worker()
    site.wait_until(lambda: site.ledger.count("start") > 5, "the first worker is busy")
    program = site.start_worker(failpoints=failpoints)
    victim.kill()
    return program


def run(site, step, action):
    """Let it happen, let others go on, and return the process in which it happened."""
    fill(site)
    faulty = start(site, step, action)
    if action == "kill":
        assert faulty.wait() == -signal.SIGKILL
        site.check_store()
    elif action == "stop":
        site.wait_until(lambda: faulty.is_stopped, "the process is stopped")
    else:
        site.wait_until(lambda: f"{step.failpoint}: raise" in faulty.output, "it has failed")
    neighbour = site.start_worker()
    if action == "stop":
        threading.Event().wait(STOPPED_S)
        faulty.send(signal.SIGCONT)
    if action != "kill" and step.role in {"stop", "produce"}:
        assert faulty.wait() == 0, faulty.output
    site.wait_until_drained()
    if action != "kill" and step.role in {"work", "sweep"}:
        assert faulty.stop() == 0, faulty.output
    assert neighbour.stop() == 0, neighbour.output
    return faulty


def check(site, step, action, faulty):
    """Check what came of it."""
    site.check_store()
    ended = set(site.ledger.numbers("end"))
    expected = {*WORK, *FAIL_ONCE, *PASS_ON, *PASSED_ON, *DELAYED, *site.ledger.numbers("sent")}
    assert expected - ended == set(), "lost"
    assert ended - expected <= {*SENT}, "came from nowhere"
    # Those that never succeed, and the one that is no message.
    assert site.counts() == [0, 0, 0, len(DEAD) + 1]
    duplicates = site.ledger.duplicates()
    killed = {faulty.pid} if action == "kill" else set()
    if step.role == "sweep":
        killed.add(site.programs[0].pid)
    for number in duplicates:
        first = min(
            (e for e in site.ledger.entries() if e.kind == "end" and e.number == number),
            key=lambda entry: entry.at_ns,
        )
        assert first.pid in killed, f"{number} ran again though nobody had died"
    # What had ended and was not settled yet counts as running: at most some for each thread.
    assert sum(duplicates.values()) - len(duplicates) <= 16 * len(killed), duplicates
    return duplicates


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """Start every case that was selected, and give access to what becomes of each."""
    directory = tmp_path_factory.mktemp("matrix")

    def run_case(step, action):
        began = time.monotonic()
        with open_site(directory / f"{step}-{step.role}-{action}") as site:
            faulty = run(site, step, action)
            duplicates = check(site, step, action, faulty)
        return duplicates, time.monotonic() - began

    cases = [
        (item.callspec.params["step"], item.callspec.params["action"])
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        futures = {case: pool.submit(run_case, *case) for case in cases}
        yield futures
        for future in futures.values():
            future.cancel()


@pytest.mark.parametrize(
    ("step", "action"),
    [
        pytest.param(step, action, id=f"{step}-{step.role}-{action}")
        for step in STEPS
        for action in step.actions
    ],
)
def test_nothing_is_lost_and_only_what_was_running_runs_again(outcomes, step, action):
    duplicates, _ = outcomes[step, action].result()

    assert action == "kill" or step.role == "sweep" or not duplicates

"""A worker dies, fails or is stopped at each step of the Redis broker; nothing gets lost.

All cases run at the same time, a few processes each, in one server with a namespace each.
"""

from __future__ import annotations

import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

import dramatiq
from tests.chaos.harness import open_site
from tests.chaos.program import declare
from tests.chaos.redis_harness import RedisSite

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]

#: Milliseconds without a heartbeat after which a worker counts as dead.
HEARTBEAT_TIMEOUT = 1000
#: How long a stopped process is stopped: three times as long.
STOPPED_S = 3.0
#: Cases at a time.
CONCURRENCY = 8

#: A lost reply, which makes a worker give back what it did not know of.
LOST_REPLY = "redis.exchange.after=raise@1"


class Step(NamedTuple):
    """Where it happens: at which hit, in which kind of process, and what else is needed for it."""

    failpoint: str
    hit: int = 1
    #: ``work``, ``stop`` (a worker that is asked to stop), ``sweep`` (one that finds another
    #: dead), ``blame`` (one that finds another dead which was running something), or ``produce``.
    role: str = "work"
    also: str = ""

    def __str__(self):
        return f"{self.failpoint}@{self.hit}"


STEPS = [
    Step("redis.join.after"),
    Step("redis.join.after", 2),
    *(Step("redis.exchange.before", hit) for hit in (1, 3, 6, 12)),
    *(Step("redis.exchange.after", hit) for hit in (1, 3, 6, 12)),
    Step("redis.reconcile.before", also=LOST_REPLY),
    Step("redis.reconcile.after", also=LOST_REPLY),
    *(Step("redis.delays.after_take", hit) for hit in (1, 3)),
    Step("redis.delays.after_park"),
    *(Step("redis.delays.after_promote", hit) for hit in (1, 2)),
    Step("redis.leave.before_strike_off", role="stop"),
    Step("redis.leave.before_unpark", role="stop"),
    Step("redis.blame.before", role="blame"),
    Step("redis.blame.after", role="blame"),
    Step("redis.reclaim.after_move", role="sweep"),
    Step("redis.reclaim.before_strike_off", role="sweep"),
    Step("redis.enqueue.before", 4, role="produce"),
    Step("redis.enqueue.after", 4, role="produce"),
]
ACTIONS = ("stop", "kill", "raise")

#: What is sent before the fault.
WORK = range(1, 25)
FAIL_ONCE = range(101, 105)
PASS_ON = range(201, 204)
PASSED_ON = range(1201, 1204)
DEAD = range(301, 303)
DELAYED = range(401, 403)
#: What is not due before the end.
FAR = range(601, 604)
#: What its worker was running when that was killed.
HANGING = 701
#: What the producer sends, whose fault is in between.
SENT = range(501, 511)


def test_every_failpoint_of_the_broker_is_in_the_matrix():
    source = Path(dramatiq.__file__).parent
    found = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r'\bhit\(\s*"(redis\.[a-z_.]+)"', path.read_text())
    }

    assert found == {step.failpoint for step in STEPS}


def fill(site):
    """Send some of everything, and something that nobody can decode."""
    broker = site.make_broker()
    actors = declare(broker, site.ledger.path)
    actors["work"].send_many([(number, number % 5) for number in WORK])
    actors["fail_once"].send_many([(number,) for number in FAIL_ONCE])
    for number in PASS_ON:
        steps = [actors["pass_on"].message(number), actors["work"].message()]
        dramatiq.pipeline(steps, broker=broker).run()
    actors["fail"].send_many([(number,) for number in DEAD])
    for numbers, delay in ((DELAYED, 200), (FAR, 3_600_000)):
        for number in numbers:
            actors["work"].send_with_options(args=(number,), delay=delay)
    broker.do_enqueue("default", "raw", b'{"not": "a message"}')
    broker.close()


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
    if step.role == "blame":
        broker = site.make_broker()
        declare(broker, site.ledger.path)["hang_once"].send(HANGING)
        broker.close()
    victim = site.start_worker()
    site.wait_until(lambda: site.ledger.count("start") > 5, "the first worker is busy")
    if step.role == "blame":
        site.wait_until(lambda: HANGING in site.ledger.numbers("start"), "it runs")
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
    expected = [0, len(FAR), 0, len(DEAD) + 1]
    site.wait_until(lambda: site.counts() == expected, "nothing is left that is due")
    if action != "kill" and step.role in {"work", "sweep", "blame"}:
        assert faulty.stop() == 0, faulty.output
    assert neighbour.stop() == 0, neighbour.output
    return faulty


def check(site, step, action, faulty):
    """Check what came of it."""
    site.check_store()
    ended = set(site.ledger.numbers("end"))
    expected = {*WORK, *FAIL_ONCE, *PASS_ON, *PASSED_ON, *DELAYED, *site.ledger.numbers("sent")}
    if step.role == "blame":
        expected.add(HANGING)
    assert expected - ended == set(), "lost"
    assert ended - expected <= {*SENT}, "came from nowhere"
    # Those that never succeed, and the one that is no message.
    assert site.counts() == [0, len(FAR), 0, len(DEAD) + 1]
    duplicates = site.ledger.duplicates()
    killed = {faulty.pid} if action == "kill" else set()
    if step.role in {"sweep", "blame"}:
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
def outcomes(request, tmp_path_factory, redis_server):
    """Start every case that was selected, and give access to what becomes of each."""
    directory = tmp_path_factory.mktemp("matrix")

    def run_case(step, action):
        name = f"{step}-{step.role}-{action}"
        options = {"namespace": f"matrix-{name}", "heartbeat_timeout": HEARTBEAT_TIMEOUT}
        with open_site(directory / name, RedisSite, server=redis_server, **options) as site:
            faulty = run(site, step, action)
            return check(site, step, action, faulty)

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
        for action in ACTIONS
    ],
)
def test_nothing_is_lost_and_only_what_was_running_runs_again(outcomes, step, action):
    duplicates = outcomes[step, action].result()

    assert action == "kill" or step.role in {"sweep", "blame"} or not duplicates

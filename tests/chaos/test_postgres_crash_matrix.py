"""A worker dies, fails or is stopped at each step of the PostgreSQL broker; nothing gets lost.

All cases run at the same time, a few processes each, on one server with a schema each.
"""

from __future__ import annotations

import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import dramatiq
from tests.chaos.harness import open_site
from tests.chaos.postgres_harness import PostgresSite
from tests.chaos.program import declare
from tests.chaos.redis_harness import IS_FULL
from tests.chaos.test_crash_matrix import (
    CONCURRENCY,
    DEAD,
    DELAYED,
    FAIL_ONCE,
    PASS_ON,
    STOPPED_S,
    WORK,
    Step,
    check,
    start,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]

#: A lost reply, which makes a worker give back what it did not know of.
LOST_REPLY = "postgres.take.after_commit=raise@1"

STEPS = [
    Step("postgres.join.before_commit"),
    *(
        Step(f"postgres.{name}", hit)
        for name in ("before_begin", "before_commit", "after_commit")
        for hit in (2, 5)
    ),
    Step("postgres.take.before_lease", 2),
    Step("postgres.take.after_commit", 2),
    Step("postgres.settle.before_move"),
    Step("postgres.settle.before_follow_ups", 2),
    Step("postgres.settle.before_commit", 2),
    Step("postgres.bury.before_commit"),
    Step("postgres.give_back.before_commit", also=LOST_REPLY),
    Step("postgres.reclaim.before_blame", role="stop"),
    Step("postgres.reclaim.before_blame", role="sweep"),
    Step("postgres.reclaim.before_commit", role="sweep"),
    Step("postgres.enqueue.after", 4, role="produce"),
]


def test_every_failpoint_of_the_broker_is_in_the_matrix():
    source = Path(dramatiq.__file__).parent
    found = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r'\bhit\(\s*"(postgres\.[a-z_.]+)"', path.read_text())
    }

    assert found == {step.failpoint for step in STEPS}


def fill(site):
    """Send some of everything, and add a row that nobody can decode."""
    broker = site.make_broker()
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
    site.query(
        "INSERT INTO messages (did, queue, state, prio, position, payload) "
        "VALUES ('x', 'default', 0, 0, 0, 'no message')"
    )


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


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory, postgres_server):
    """Start every case that was selected, and give access to what becomes of each."""
    directory = tmp_path_factory.mktemp("matrix")

    def run_case(step, action):
        name = f"{step}-{step.role}-{action}"
        schema = re.sub(r"\W", "_", name.removeprefix("postgres."))
        with open_site(
            directory / name, PostgresSite, server=postgres_server, schema=schema
        ) as site:
            return check(site, step, action, run(site, step, action))

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
        for index, step in enumerate(STEPS)
        for action in step.actions
        # A fifth of them stopped, and failing: the others are as those on SQLite.
        if IS_FULL or action == "kill" or (index + len(action)) % 5 == 0
    ],
)
def test_nothing_is_lost_and_only_what_was_running_runs_again(outcomes, step, action):
    duplicates = outcomes[step, action].result()

    assert action == "kill" or step.role == "sweep" or not duplicates

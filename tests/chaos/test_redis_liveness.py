"""Workers on Redis that live, whatever it looks like."""

from __future__ import annotations

import pytest

from tests.chaos.harness import open_site
from tests.chaos.program import declare
from tests.chaos.redis_harness import RedisSite, show

#: Milliseconds without heartbeat after which a worker counts as dead.
TIMEOUT = 1500
#: Milliseconds for which nothing but one actor runs in a process.
HELD = 3 * TIMEOUT


@pytest.fixture
def site(request, tmp_path, redis_server):
    # Each test with its own: what was killed before it could acknowledge would run in the next one.
    options = {"namespace": f"liveness-{request.node.name}", "heartbeat_timeout": TIMEOUT}
    with open_site(tmp_path, RedisSite, server=redis_server, **options) as site:
        yield site


@pytest.mark.chaos
def test_a_process_that_holds_the_interpreter_is_not_taken_for_dead(site, capsys):
    holder = site.start_worker(threads=2)
    broker = site.make_broker()
    actors = declare(broker, site.ledger.path)
    # The far ones fill what a worker could hold; the others wait behind what holds it up.
    actors["work"].send_with_options(args=(1000, 0), delay=3_600_000)
    actors["hold_interpreter"].send(1, HELD)
    site.wait_until(lambda: site.ledger.count("start") == 1, "it holds the interpreter")
    site.start_worker(threads=2)
    actors["work"].send_many([(number, 1) for number in range(2, 50)])
    held = site.leased_to(holder.pid)

    site.wait_until(lambda: site.ledger.count("end") == 49, "all have run")
    broker.close()
    broker.client.close()

    figures = {"held": held, "duplicates": len(site.ledger.duplicates())}
    show(capsys, f"an interpreter held for {HELD} ms, timeout {TIMEOUT} ms", figures)
    assert held >= 1
    assert figures["duplicates"] == 0
    site.check_store()


@pytest.mark.chaos
def test_tasks_that_fill_every_thread_for_long_keep_their_lease(site, capsys):
    broker = site.make_broker()
    actors = declare(broker, site.ledger.path)
    actors["work"].send_many([(number, HELD) for number in range(2)])
    site.start_worker(threads=2)
    site.wait_until(lambda: site.ledger.count("start") == 2, "every thread is busy")
    site.start_worker(threads=2)

    site.wait_until(lambda: site.ledger.count("end") == 2, "all have run")
    broker.close()
    broker.client.close()

    figures = {"duplicates": len(site.ledger.duplicates()), "starts": site.ledger.count("start")}
    show(capsys, f"tasks of {HELD} ms, timeout {TIMEOUT} ms", figures)
    assert figures == {"duplicates": 0, "starts": 2}

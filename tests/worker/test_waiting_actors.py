from __future__ import annotations

import dramatiq
from dramatiq import group
from dramatiq.flight_recorder import FlightRecorder
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import StubBackend as LimitsBackend
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend
from dramatiq.testing.waiting import wait_until

LONG = 20_000


def test_actors_that_wait_for_others_do_not_keep_them_from_running(
    broker, start_worker, monkeypatch
):
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    broker.add_middleware(Results(backend=StubBackend(), store_results=True))

    @dramatiq.actor(broker=broker)
    def count(depth):
        if not depth:
            return 1
        children = group([count.message(depth - 1), count.message(depth - 1)])
        return sum(children.run().get_results(block=True, timeout=LONG))

    worker = start_worker(broker, worker_threads=1, queue_prefetch=100)

    assert 8 == count.send(3).get_result(block=True, timeout=LONG)
    wait_until(lambda: len(worker.workers) == 1)


def test_workflows_can_be_waited_for_inside_actors(broker, start_worker, monkeypatch):
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    broker.add_middleware(Results(backend=StubBackend(), store_results=True))

    @dramatiq.actor(broker=broker)
    def echo(*given):
        return list(given)

    @dramatiq.actor(broker=broker)
    def wait():
        composed = group([echo.message(1), echo.message(2)]) | echo.message()
        return composed.run().get_result(block=True, timeout=LONG)

    start_worker(broker, worker_threads=1)

    assert [[[1], [2]]] == wait.send().get_result(block=True, timeout=LONG)


def test_it_is_written_down_what_runs_while_another_one_waits(
    broker, start_worker, ledger, monkeypatch
):
    """Who brings down the process is told from who waited for it."""
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    monkeypatch.setattr(broker, "make_flight_recorder", FlightRecorder)
    broker.add_middleware(Results(backend=StubBackend(), store_results=True))

    @dramatiq.actor(broker=broker)
    def look():
        running = worker.recorder.look().running
        ledger.write(sorted(each.actor_name for each in running))

    @dramatiq.actor(broker=broker)
    def wait():
        group([look.message()]).run().wait(timeout=LONG)

    worker = start_worker(broker, worker_threads=1)
    for _ in range(2):
        wait.send().get_result(block=True, timeout=LONG)

    assert [["look", "wait"]] * 2 == ledger.wait_for(2)


def test_a_member_of_a_group_counts_when_what_it_returned_is_done(
    broker, ledger, start_worker, monkeypatch
):
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    broker.add_middleware(GroupCallbacks(LimitsBackend()))

    @dramatiq.actor(broker=broker)
    def write(word):
        ledger.write(word)

    @dramatiq.actor(broker=broker)
    def split():
        return group([write.message("a"), write.message("b").copy(options={"delay": 200})])

    side = group([split.message(), write.message("c")])
    side.add_completion_callback(write.message("end"))
    side.run()
    start_worker(broker)

    words = ledger.wait_for(4)

    assert ("b", "end") == tuple(words[2:])

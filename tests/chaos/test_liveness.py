"""Processes that live, whatever it looks like: stopped for long, or with a busy interpreter.

Each test lasts three times as long as a lease does: on Redis, as a worker may be without a
heartbeat; on SQLite, where the kernel tells who lives, as long as others take to notice a death.
"""

from __future__ import annotations

import time

import pytest

from tests.chaos.harness import open_site
from tests.chaos.program import declare
from tests.chaos.redis_harness import RedisSite, show
from tests.chaos.trees import Tree, elsewhere, open_either

pytestmark = pytest.mark.chaos

#: Milliseconds without heartbeat after which a worker counts as dead.
TIMEOUT = 1000
#: Milliseconds for which nothing is heard of a process.
SILENT_MS = 3 * TIMEOUT
THREADS = 4
#: Most messages a worker may hold where that is limited.
FULL = 8


@pytest.fixture(params=["sqlite", "redis"])
def site(request, tmp_path):
    with open_either(request, tmp_path, "liveness", heartbeat_timeout=TIMEOUT) as site:
        yield site


@pytest.fixture
def redis_site(tmp_path, redis_server):
    with open_site(
        tmp_path, RedisSite, server=redis_server, namespace="frozen", heartbeat_timeout=TIMEOUT
    ) as site:
        yield site


@pytest.fixture
def actors(request):
    name = "redis_site" if "redis_site" in request.fixturenames else "site"
    site = request.getfixturevalue(name)
    broker = site.make_broker()
    yield declare(broker, site.ledger.path)
    broker.close()
    if hasattr(broker, "client"):
        broker.client.close()


@pytest.fixture
def gates(tmp_path):
    """A folder in which each process has a gate, which a file of the name of its id opens."""
    path = tmp_path / "gates"
    path.mkdir()
    return path


def figures_of(site):
    return {
        "messages": len(set(site.ledger.numbers("end"))),
        "starts": site.ledger.count("start"),
        "duplicates": len(site.ledger.duplicates()),
    }


@pytest.mark.parametrize("what", ["child", "tree"])
def test_what_is_stopped_for_a_while_keeps_what_it_holds(site, actors, what, capsys):
    tree = Tree(site, processes=2, threads=THREADS).wait_until_ready()
    other = Tree(site, processes=1, threads=THREADS).wait_until_ready()
    numbers = range(200)
    actors["work"].send_many((number, 50) for number in numbers)
    site.wait_until(lambda: len(tree.workers()) == 2, "both of its children work")
    frozen = tree.workers() if what == "tree" else tree.workers()[:1]

    tree.freeze([*frozen, tree.pid] if what == "tree" else frozen)
    held = [site.leased_to(pid) for pid in frozen]
    site.wait_until(lambda: sum(site.counts()[:3]) == sum(held), "the others have done the rest")
    time.sleep(SILENT_MS / 1000)

    assert held == [site.leased_to(pid) for pid in frozen]
    tree.thaw([*frozen, tree.pid])
    site.wait_until_drained()
    assert [tree.stop(), other.stop()] == [0, 0]
    figures = {"held meanwhile": sum(held), **figures_of(site)}
    show(capsys, f"a {what} stopped for {SILENT_MS} ms on {type(site).__name__}", figures)
    assert sum(held) > 0
    assert figures == {"held meanwhile": sum(held), "messages": 200, "starts": 200, "duplicates": 0}
    site.check_store()


def test_acks_of_a_machine_that_was_taken_for_dead_move_nothing(redis_site, actors, gates, capsys):
    site, numbers = redis_site, set(range(THREADS))
    soon = {"dramatiq_restart_delay": "100"}
    tree = Tree(site, processes=1, threads=THREADS, prefix=elsewhere(), **soon).wait_until_ready()
    actors["wait_at_gate"].send_many((number, str(gates)) for number in numbers)
    site.wait_until(lambda: site.ledger.count("start") == THREADS, "it is busy")
    [frozen] = tree.children()
    heir = Tree(site, processes=1, threads=THREADS).wait_until_ready()
    [runs_now] = heir.children()

    tree.freeze([frozen, tree.pid])
    time.sleep(SILENT_MS / 1000)
    site.wait_until(lambda: site.running(runs_now) == numbers, "the other runs what it ran")
    (gates / str(frozen)).touch()
    tree.thaw([frozen, tree.pid])
    site.wait_until(lambda: site.ledger.count("end") == THREADS, "the first ends it as well")
    # It fetches with its acks, or after them: these have been answered when it runs something.
    actors["work"].send(THREADS, 0)
    site.wait_until(lambda: THREADS in site.ledger.numbers("end"), "it works again")

    assert site.ledger.entries()[-1].pid == frozen
    assert site.leased_to(runs_now) == THREADS
    (gates / str(runs_now)).touch()
    site.wait_until_drained()
    assert [tree.stop(), heir.stop()] == [0, 0]
    figures = figures_of(site)
    show(capsys, f"a machine stopped for longer than {TIMEOUT} ms", figures)
    assert figures["duplicates"] == THREADS
    assert figures["starts"] == 2 * THREADS + 1
    site.check_store()


def test_a_busy_interpreter_and_long_messages_keep_all_that_a_worker_can_hold(site, actors, capsys):
    def send_delayed(numbers, delay):
        for number in numbers:
            actors["work"].send_with_options(args=(number, 1), delay=delay)

    # These fill what a worker could hold of them; others come due while it is busy.
    send_delayed(range(100, 130), delay=3_600_000)
    actors["hold_interpreter"].send(10, SILENT_MS)
    long_ones = [(number, SILENT_MS) for number in range(11, 14)]
    short_ones = [(number, 1) for number in range(14, 60)]
    actors["work"].send_many([*long_ones[:1], *short_ones[:20], *long_ones[1:], *short_ones[20:]])

    full = {"dramatiq_queue_prefetch": str(FULL), "dramatiq_delay_queue_prefetch": str(FULL)}
    tree = Tree(site, processes=2, threads=2, **full)
    site.wait_until(lambda: 10 in site.ledger.numbers("start"), "it holds the interpreter")
    [holder] = [entry.pid for entry in site.ledger.entries() if entry.number == 10]
    held = site.leased_to(holder)
    send_delayed(range(10), delay=500)
    site.wait_until(lambda: len(set(site.ledger.numbers("end"))) == 60, "all have run")
    assert tree.stop() == 0

    figures = {"held meanwhile": held, **figures_of(site)}
    show(capsys, f"an interpreter held for {SILENT_MS} ms on {type(site).__name__}", figures)
    assert figures == {"held meanwhile": FULL, "messages": 60, "starts": 60, "duplicates": 0}
    assert site.counts() == [0, 30, 0, 0]
    site.check_store()

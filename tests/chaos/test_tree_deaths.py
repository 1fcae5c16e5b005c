"""Kill the main process, the whole tree or a whole machine: who is left, and what work goes on."""

from __future__ import annotations

import random
import time

import pytest

from dramatiq.message import Message
from dramatiq.testing.waiting import wait_until
from tests.chaos.harness import open_site
from tests.chaos.redis_harness import IS_FULL, SEED, RedisSite, show
from tests.chaos.slowness import Slowness
from tests.chaos.trees import Tree, count_fates, elsewhere, open_either, state_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

PROCESSES, THREADS = 2, 4
#: How long each message takes, in milliseconds.
DURATION = 150
#: Seconds after which nobody may be left of a tree whose main process was killed.
ORPHAN_BOUND_S = 5
#: Milliseconds within which what a dead process ran must run elsewhere on its machine.
RECOVERY_BOUND_MS = 2000
#: The same where only its heartbeats can tell, for a timeout of 30 seconds.
ELSEWHERE_BOUND_MS = 37_000
#: How often the main process is killed, and the whole tree as often.
ROUNDS = 10 if IS_FULL else 1


def send(site, numbers, duration_ms=DURATION):
    broker = site.make_broker()
    broker.enqueue_many(
        Message("default", "work", (number, duration_ms), {}, {}) for number in numbers
    )
    broker.close()


def keep_busy(site, numbers):
    """Send more where a slow machine has run nearly all before the next can be killed."""
    if site.ledger.count("end") > len(numbers) - 100:
        more = range(len(numbers), len(numbers) + 400)
        send(site, more)
        numbers += more


@pytest.fixture(params=["sqlite", "redis"])
def site(request, tmp_path):
    with open_either(request, tmp_path, "trees") as site:
        yield site


def kill_supervisor(tree):
    """Kill the main process alone; return when, and how many seconds its children lived on."""
    children = tree.children()
    at_ns = time.monotonic_ns()
    tree.kill()
    wait_until(lambda: not any(map(state_of, children)), timeout_s=ORPHAN_BOUND_S)
    return at_ns, (time.monotonic_ns() - at_ns) / 1e9


def kill_all(tree):
    """Kill the whole tree; return when, and the ids of its children."""
    children = tree.children()
    at_ns = time.monotonic_ns()
    tree.kill_all()
    return at_ns, children


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_another_tree_goes_on_when_a_main_process_or_a_tree_is_killed(site, how, capsys):
    rng = random.Random(SEED)
    arguments = ("--use-spawn",) if how == "spawn" else ()

    def start():
        tree = Tree(site, processes=PROCESSES, threads=THREADS, arguments=arguments)
        return tree.wait_until_ready()

    def is_busy(tree):
        return len(tree.workers()) == PROCESSES

    trees = [start(), start()]
    numbers = list(range(400 * ROUNDS))
    send(site, numbers)
    lived_on, deaths = [], []
    with Slowness() as slowness:
        for kill in ["supervisor", "all"] * ROUNDS:
            keep_busy(site, numbers)
            victim = trees.pop(rng.randrange(2))
            site.wait_until(lambda tree=victim: is_busy(tree), "both of its children work")
            if kill == "supervisor":
                lived_on.append(kill_supervisor(victim)[1])
            else:
                deaths.append(kill_all(victim))
            trees.append(start())
        site.wait_until_drained(120)
    exit_codes = [tree.stop() for tree in trees]

    figures = {
        "main processes killed": ROUNDS,
        "children lived on s": round(max(lived_on), 2),
        **count_fates(site, numbers, deaths),
    }
    show(capsys, f"killed trees on {type(site).__name__}, {how}", figures)
    assert exit_codes == [0, 0]
    assert figures["lost"] == figures["phantom"] == 0, (SEED, figures)
    # What had just ended in a process and was on its way to the store.
    assert figures["duplicates"] <= len(deaths) * PROCESSES * THREADS, (SEED, figures)
    # The full form has the machine to itself.
    bound_ms = RECOVERY_BOUND_MS * (1 if IS_FULL else slowness.factor)
    slowest_ms = figures["recovery from several deaths max ms"]
    assert slowest_ms <= bound_ms, (SEED, bound_ms, figures)
    site.check_store()


@pytest.fixture
def machines(tmp_path, redis_server):
    with open_site(tmp_path, RedisSite, server=redis_server, namespace="machines") as site:
        yield site


@pytest.mark.skipif(not IS_FULL, reason="nobody notices for half a minute")
def test_another_machine_goes_on_when_all_of_one_is_killed(machines, capsys):
    numbers = range(2 * THREADS)
    victim = Tree(machines, processes=1, threads=THREADS, prefix=elsewhere()).wait_until_ready()
    send(machines, numbers[:THREADS], 60_000)
    machines.wait_until(lambda: machines.ledger.count("start") == THREADS, "all of it is busy")
    heir = Tree(machines, processes=1, threads=2 * THREADS).wait_until_ready()
    send(machines, numbers[THREADS:])

    deaths = [kill_all(victim)]
    machines.wait_until(
        lambda: machines.ledger.count("start") == 3 * THREADS, "the other runs what it ran", 60
    )

    figures = count_fates(machines, numbers[THREADS:], deaths)
    show(capsys, "a machine killed", figures)
    assert figures["lost"] == 0
    assert figures["recovery max ms"] <= ELSEWHERE_BOUND_MS, figures
    [survivor] = heir.children()
    assert machines.running(survivor) == set(numbers[:THREADS])
    machines.check_store()

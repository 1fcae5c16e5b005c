"""Kill worker processes at random moments while they work, and count what became of the messages.

The short form runs with the suite. ``make chaos`` runs the full one, which prints its figures.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest

from dramatiq.message import Message
from tests.chaos.redis_harness import IS_FULL, SEED, show
from tests.chaos.slowness import Slowness
from tests.chaos.trees import Tree, count_fates, open_either

PROCESSES, THREADS = 2, 8
#: Milliseconds within which what a dead process ran must run elsewhere: at most 1,250 of them it
#: waits because it may be to blame.
RECOVERY_BOUND_MS = 2000


@dataclass(frozen=True)
class Storm:
    messages: int
    duration_ms: int
    kills: int
    #: Seconds between two kills, at least and at most.
    pause_s: tuple[float, float]


# Children that die within a second of being ready come back later and later, so not too often.
STORM = Storm(20_000, 150, 200, (0.5, 3)) if IS_FULL else Storm(1_000, 150, 10, (0.4, 1.3))


class Workers:
    """A tree; another one when it was killed."""

    def __init__(self, site):
        self.site = site
        self.tree = self.start()

    def start(self):
        return Tree(self.site, processes=PROCESSES, threads=THREADS)

    def kill_child(self, rng):
        """Kill one child; return its pid in a list, which is empty if there was none."""
        children = self.tree.children()
        if not children:
            return []
        victim = rng.choice(children)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        return [victim]

    def are_replaced(self, kills):
        """Tell whether all processes are there, and none of those that were killed."""
        children = self.tree.children()
        dead = {pid for _, pids in kills for pid in pids}
        return len(children) == PROCESSES and not dead & set(children)

    def kill_tree(self):
        """Kill all and start again at once; return the pids of the children."""
        victims = self.tree.children()
        self.tree.kill_all()
        self.tree = self.start()
        return victims


@pytest.fixture(params=["sqlite", "redis"])
def site(request, tmp_path):
    with open_either(request, tmp_path, "storm") as site:
        yield site


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_killed_workers_lose_nothing_and_what_they_ran_runs_elsewhere_soon(site, capsys):
    rng = random.Random(SEED)
    send_all(site)
    workers = Workers(site)

    with Slowness() as slowness:
        kills = rage(site, workers, rng)
        site.wait_until_drained(300)
    # A death that is noticed only while stopping counts as a failure to stop.
    site.wait_until(lambda: workers.are_replaced(kills), "the last one killed was replaced")
    exit_code = workers.tree.stop()

    figures = count_fates(site, range(STORM.messages), kills)
    show(capsys, f"kill storm on {type(site).__name__}", figures)
    assert exit_code == 0
    assert figures["lost"] == figures["phantom"] == 0, (SEED, figures)
    # What had just ended in a process and was on its way to the store.
    most = sum(len(pids) for _, pids in kills) * THREADS
    assert figures["duplicates"] <= most, (SEED, figures)
    # The full form has the machine to itself.
    bound_ms = RECOVERY_BOUND_MS * (1 if IS_FULL else slowness.factor)
    assert figures["recovery p99 ms"] <= bound_ms, (SEED, bound_ms, figures)
    site.check_store()


def send_all(site):
    broker = site.make_broker()
    broker.enqueue_many(
        Message("default", "work", (number, STORM.duration_ms), {}, {})
        for number in range(STORM.messages)
    )
    broker.close()


def rage(site, workers, rng):
    """Kill at random moments, one in ten times the whole tree; return when and whom."""
    site.wait_until(site.ledger.path.exists, "work has begun")
    kills = []
    while len(kills) < STORM.kills and sum(site.counts()[:3]) > THREADS * PROCESSES * 2:
        time.sleep(rng.uniform(*STORM.pause_s))
        at_ns = time.monotonic_ns()
        victims = workers.kill_tree() if rng.random() < 0.1 else workers.kill_child(rng)
        if victims:
            kills.append((at_ns, victims))
    return kills

"""Kill worker processes at random moments while they work, and count what became of the messages.

The short form runs with the suite. ``make chaos`` runs the full one, which prints its figures.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from dramatiq.message import Message
from tests.chaos.harness import Site, open_site
from tests.chaos.redis_harness import RedisSite

IS_FULL = os.environ.get("DRAMATIQ_CHAOS") == "full"
SEED = int(os.environ.get("DRAMATIQ_CHAOS_SEED", "0")) or random.SystemRandom().randrange(2**32)

PROCESSES, THREADS = 2, 8
#: Milliseconds within which what a dead process ran must run elsewhere: at most 1,500 of them it
#: waits because it may be to blame.
RECOVERY_BOUND_MS = 2500


@dataclass(frozen=True)
class Storm:
    messages: int
    duration_ms: int
    kills: int
    #: Seconds between two kills, at least and at most.
    pause_s: tuple[float, float]


# Children that die within a second of being ready come back later and later, so not too often.
STORM = Storm(20_000, 150, 200, (0.4, 1.3)) if IS_FULL else Storm(1_000, 150, 10, (0.4, 1.3))


class Workers:
    """The command line with its children; started again when the whole tree was killed."""

    def __init__(self, site):
        self.site = site
        self.number = 0
        self.program = None

    def start(self):
        self.number += 1
        output = self.site.directory / f"workers-{self.number}"
        with output.open("wb") as file:
            self.program = subprocess.Popen(
                [
                    *(sys.executable, "-m", "dramatiq", "tests.chaos.storm_app"),
                    *("-p", str(PROCESSES), "-t", str(THREADS)),
                ],
                cwd=Path(__file__).parents[2],
                env={
                    **os.environ,
                    "STORM_DATABASE": str(self.site.database),
                    "STORM_LEDGER": str(self.site.ledger.path),
                    "CHAOS_BROKER_OPTIONS": json.dumps(self.site.broker_options),
                },
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def children(self):
        path = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children")
        with suppress(OSError):
            return [int(pid) for pid in path.read_text().split()]
        return []

    def kill_child(self, rng):
        """Kill one child; return its pid in a list, which is empty if there was none."""
        children = self.children()
        if not children:
            return []
        victim = rng.choice(children)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        return [victim]

    def kill_tree(self):
        """Kill all, children first so that none can be replaced; start again at once."""
        victims = self.children()
        os.killpg(self.program.pid, signal.SIGKILL)
        self.program.wait(10)
        self.start()
        return victims

    def stop(self):
        self.program.send_signal(signal.SIGTERM)
        return self.program.wait(30)

    def clean_up(self):
        with suppress(ProcessLookupError):
            os.killpg(self.program.pid, signal.SIGKILL)
        self.program.wait(10)


@dataclass
class Kill:
    at_ns: int
    pids: list[int]


@pytest.fixture(params=["sqlite", "redis"])
def site(request, tmp_path):
    options = {"make": Site}
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        options = {"make": RedisSite, "server": server, "namespace": "storm"}
    with open_site(tmp_path, **options) as site:
        yield site


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_killed_workers_lose_nothing_and_what_they_ran_runs_elsewhere_soon(site, capsys):
    rng = random.Random(SEED)
    send_all(site)
    workers = Workers(site)
    workers.start()
    try:
        kills = rage(site, workers, rng)
        site.wait_until(lambda: site.counts()[:3] == [0, 0, 0], "the queue is empty", 300)
        exit_code = workers.stop()
    finally:
        workers.clean_up()

    figures = count(site, kills)
    with capsys.disabled():
        print(f"\nkill storm on {type(site).__name__}, seed {SEED}: {figures}")
    assert exit_code == 0
    assert figures["lost"] == 0, (SEED, figures)
    assert figures["duplicates"] <= figures["running when killed"], (SEED, figures)
    assert figures["recovery p99 ms"] <= RECOVERY_BOUND_MS, (SEED, figures)
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
            kills.append(Kill(at_ns, victims))
    return kills


def count(site, kills):
    """Count what became of the messages, from the ledger alone."""
    entries = site.ledger.entries()
    ended = site.ledger.numbers("end")
    starts = [entry for entry in entries if entry.kind == "start"]
    ends = {(entry.number, entry.pid) for entry in entries if entry.kind == "end"}
    running, recoveries, died_before = 0, [], set()
    for kill in kills:
        for start in starts:
            if start.pid in kill.pids and (start.number, start.pid) not in ends:
                running += 1
                later = [
                    each.at_ns
                    for each in starts
                    if each.number == start.number and each.at_ns > kill.at_ns
                ]
                # What died with its process before is no longer above suspicion.
                if start.number not in died_before:
                    recoveries.append((min(later) - kill.at_ns) / 1e6)
                died_before.add(start.number)
    recoveries.sort()
    return {
        "messages": STORM.messages,
        "kills": len(kills),
        "lost": STORM.messages - len(set(ended)) - site.counts()[3],
        "dead, having died with three processes": site.counts()[3],
        "duplicates": len(ended) - len(set(ended)),
        "running when killed": running,
        "recovery p50 ms": round(quantile(recoveries, 0.5)),
        "recovery p99 ms": round(quantile(recoveries, 0.99)),
        "recovery max ms": round(quantile(recoveries, 1)),
    }


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0

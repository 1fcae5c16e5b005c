"""Restart a working program again and again, one process at a time and as a whole, and count.

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
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from dramatiq.message import Message
from tests.chaos.harness import DEADLINE_S, Site, open_site
from tests.chaos.redis_harness import RedisSite

IS_FULL = os.environ.get("DRAMATIQ_CHAOS") == "full"
SEED = int(os.environ.get("DRAMATIQ_CHAOS_SEED", "0")) or random.SystemRandom().randrange(2**32)

PROCESSES, THREADS = 2, 8
#: Milliseconds that a message takes.
DURATION_MS = 60
#: How many rolls, and seconds between the end of one and the next signal, at most.
ROLLS, PAUSE_S = (60, 1.5) if IS_FULL else (4, 0.1)
#: How many moments of the boot get a signal, and over how many seconds they are spread.
INSTANTS, BOOT_S = (50, 0.5) if IS_FULL else (4, 0.4)


class Fleet:
    """The command line; what it logs goes through a reader of its own, which can be killed."""

    def __init__(self, site, *arguments):
        self.site = site
        self.arguments = arguments
        self.log = site.directory / "log"
        self.processes = []
        self.program = self.reader = None

    def start(self):
        """Start the program, and wait until signals reach it."""
        pid_file = self.site.directory / "pid"
        with self.log.open("ab") as file:
            self.reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        self.program = subprocess.Popen(
            [
                *(sys.executable, "-m", "dramatiq", "tests.chaos.storm_app", *self.arguments),
                *("-p", str(PROCESSES), "-t", str(THREADS), "--pid-file", str(pid_file)),
            ],
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "STORM_DATABASE": str(self.site.database),
                "STORM_LEDGER": str(self.site.ledger.path),
                "CHAOS_BROKER_OPTIONS": json.dumps(self.site.broker_options),
            },
            stderr=self.reader.stdin,
            start_new_session=True,
        )
        self.reader.stdin.close()
        self.processes += [self.program, self.reader]
        self.site.wait_until(pid_file.exists, "the program takes signals")

    def send(self, number):
        self.program.send_signal(number)

    def children(self):
        path = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children")
        with suppress(OSError):
            return {int(pid) for pid in path.read_text().split()}
        return set()

    def members(self):
        """Return the pids of all living processes of the program's session."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.program.pid and state != "Z":
                    found.add(int(path.parent.name))
        return found

    def wait_until_complete(self):
        self.site.wait_until(lambda: len(self.children()) == PROCESSES, "all workers are there")

    def rolls(self):
        return self.log.read_text(errors="replace").count("have been replaced")

    def stop(self):
        self.send(signal.SIGTERM)
        return self.program.wait(DEADLINE_S)

    def clean_up(self):
        for process in self.processes:
            if process.poll() is None:
                with suppress(ProcessLookupError, PermissionError):
                    process.kill()
            process.wait(DEADLINE_S)


@pytest.fixture(params=["sqlite", "redis"])
def site(request, tmp_path):
    options = {"make": Site}
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        options = {"make": RedisSite, "server": server, "namespace": "restarts"}
    with open_site(tmp_path, **options) as site:
        yield site


@dataclass
class Producer:
    """Sends so many messages at a time whenever few are left, so that there is always work."""

    site: Site
    sent: int = 0

    def top_up(self):
        if self.sent and self.site.counts()[0] > 20 * PROCESSES * THREADS:
            return
        broker = self.site.make_broker()
        count = 40 * PROCESSES * THREADS
        broker.enqueue_many(
            Message("default", "work", (self.sent + number, DURATION_MS), {}, {})
            for number in range(count)
        )
        self.sent += count
        broker.close()


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_rolls_lose_and_repeat_nothing_and_survive_their_log_reader(site, capsys):
    rng = random.Random(SEED)
    producer = Producer(site)
    fleet = Fleet(site, "--rolling")
    producer.top_up()
    fleet.start()
    most = 0

    def is_over(rolls, old):
        nonlocal most
        most = max(most, len(fleet.members()))
        # Without its log nothing tells when it is over, but that nobody of old is left.
        return fleet.rolls() > rolls if fleet.reader.poll() is None else not old & fleet.children()

    try:
        fleet.wait_until_complete()
        for number in range(ROLLS):
            producer.top_up()
            roll = partial(is_over, fleet.rolls(), fleet.children())
            fleet.send(signal.SIGHUP)
            site.wait_until(roll, "the roll is over")
            time.sleep(rng.uniform(0, PAUSE_S))
            if number == ROLLS // 2 - 1:
                fleet.wait_until_complete()
                fleet.reader.kill()
                fleet.reader.wait(DEADLINE_S)
        site.wait_until(lambda: site.counts()[:3] == [0, 0, 0], "the queue is empty", 300)
        fleet.wait_until_complete()
        exit_code = fleet.stop()
    finally:
        fleet.clean_up()

    check(site, producer, capsys, f"{ROLLS} rolls", {"most processes at a time": most})
    assert exit_code == 0
    assert most <= 1 + PROCESSES + 1
    assert not fleet.members()


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_signals_at_any_moment_of_the_boot_lose_and_repeat_nothing(site, capsys):
    producer = Producer(site)
    fleet = Fleet(site)
    producer.top_up()
    fleet.start()
    exit_codes = Counter()
    try:
        for number in range(INSTANTS):
            producer.top_up()
            fleet.wait_until_complete()
            old = fleet.children()
            fleet.send(signal.SIGHUP)
            site.wait_until(lambda old=old: not old & fleet.children(), "the old workers ended")
            time.sleep(BOOT_S * number / INSTANTS)  # spread over the boot, not a wait
            if number % 2:
                fleet.send(signal.SIGHUP)
            else:
                exit_codes[fleet.stop()] += 1
                assert not fleet.members()
                fleet.start()
        site.wait_until(lambda: site.counts()[:3] == [0, 0, 0], "the queue is empty", 300)
        exit_codes[fleet.stop()] += 1
    finally:
        fleet.clean_up()

    check(site, producer, capsys, f"{INSTANTS} instants", {"exit codes": dict(exit_codes)})
    assert set(exit_codes) == {0}
    assert not fleet.members()


def check(site, producer, capsys, what, more):
    """Count what became of the messages, print it, and check it."""
    started, ended = site.ledger.numbers("start"), site.ledger.numbers("end")
    figures = {
        "messages": producer.sent,
        "lost": producer.sent - len(set(ended)),
        "duplicates": len(ended) - len(set(ended)),
        "started more than once": len(started) - len(set(started)),
        "dead": site.counts()[3],
        **more,
    }
    with capsys.disabled():
        print(f"\nrestarts, {what}, on {type(site).__name__}, seed {SEED}: {figures}")
    assert figures["lost"] == 0, (SEED, figures)
    assert figures["duplicates"] == figures["started more than once"] == 0, (SEED, figures)
    assert figures["dead"] == 0, (SEED, figures)
    site.check_store()

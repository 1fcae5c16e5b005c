"""Start programs, read what they wrote down, and check the store afterwards."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from dramatiq.testing.waiting import wait_until
from tests.chaos.program import make_broker

PROGRAM = Path(__file__).with_name("program.py")

#: Seconds after which something that should happen counts as not happening.
DEADLINE_S = 30.0

#: What must hold in every state of the store: each query finds what breaks it.
INVARIANTS = {
    "a message is in exactly one known state": (
        "SELECT seq FROM messages WHERE state NOT IN (0, 1, 2, 3)"
    ),
    "a payload is there": "SELECT seq FROM messages WHERE payload IS NULL OR length(payload) = 0",
    "a delivery id is there once": "SELECT did FROM messages GROUP BY did HAVING count(*) > 1",
    "exactly the leased have an owner": (
        "SELECT seq FROM messages WHERE (state = 2) <> (owner IS NOT NULL)"
    ),
    "every owner is registered": (
        "SELECT seq FROM messages WHERE state = 2 AND owner NOT IN (SELECT id FROM workers)"
    ),
    "the dead have a reason": "SELECT seq FROM messages WHERE state = 3 AND why IS NULL",
    "one owner per slot": "SELECT slot FROM workers GROUP BY slot HAVING count(*) > 1",
}


class Entry(NamedTuple):
    kind: str
    number: int
    pid: int
    at_ns: int


class Ledger:
    """What all programs of a test wrote down."""

    def __init__(self, path):
        self.path = path

    def entries(self):
        with suppress(FileNotFoundError):
            lines = self.path.read_text().split("\n")
            # The last line may be on its way.
            fields = [line.split() for line in lines[:-1]]
            return [Entry(kind, *map(int, rest)) for kind, *rest in fields]
        return []

    def numbers(self, kind):
        return [entry.number for entry in self.entries() if entry.kind == kind]

    def count(self, kind):
        return len(self.numbers(kind))

    def duplicates(self):
        """Return the numbers that ended more than once, with how often they did."""
        ends = Counter(self.numbers("end"))
        return {number: count for number, count in ends.items() if count > 1}


class Program:
    """One running program."""

    def __init__(self, command, output, environment):
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def output(self):
        return self._output.read_text(errors="replace")

    @property
    def is_stopped(self):
        """Whether it is stopped, by SIGSTOP."""
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{self.pid}/stat").read_text()
            return status.rpartition(")")[2].split()[0] == "T"
        return False

    def send(self, number):
        self.process.send_signal(number)
        return self

    def kill(self):
        self.send(signal.SIGKILL)
        return self.wait()

    def stop(self):
        """Ask it to stop, and return its exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s=DEADLINE_S):
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)  # It shows the stacks of all threads.
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            raise AssertionError(f"it did not end in {timeout_s} s:\n{self.output}") from None

    def clean_up(self):
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


class Site:
    """A directory with a database and a ledger, and the programs that work there."""

    #: What `make_broker` is called with besides the database.
    broker_options = {}  # noqa: RUF012 (never changed)

    def __init__(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.database = directory / "queue.db"
        self.ledger = Ledger(directory / "ledger")
        self.programs = []

    @property
    def app_environment(self):
        """What tells `storm_app` where it works."""
        return {
            "STORM_DATABASE": str(self.database),
            "STORM_LEDGER": str(self.ledger.path),
            "CHAOS_BROKER_OPTIONS": json.dumps(self.broker_options),
        }

    def start(self, role, *arguments, failpoints="", prefix=(), program=PROGRAM, **environment):
        program = Program(
            [
                *prefix,
                sys.executable,
                program,
                role,
                self.database,
                self.ledger.path,
                *map(str, arguments),
            ],
            self.directory / f"output-{len(self.programs)}",
            {
                "DRAMATIQ_FAILPOINTS": failpoints,
                "dramatiq_restart_delay": "100",
                "PYTHONPATH": str(PROGRAM.parents[2]),
                "CHAOS_BROKER_OPTIONS": json.dumps(self.broker_options),
                **environment,
            },
        )
        self.programs.append(program)
        return program

    def make_broker(self):
        """Return a broker of this process on the same store."""
        return make_broker(self.database, **self.broker_options)

    def clean_up(self):
        for program in self.programs:
            program.clean_up()

    def start_worker(self, *, threads=4, **options):
        """Start a worker and wait until it works."""
        return self.wait_until_ready(self.start("work", threads, **options))

    def wait_until_ready(self, program):
        def is_ready():
            entries = self.ledger.entries()
            return any(entry[0] == "ready" and entry.pid == program.pid for entry in entries)

        self.wait_until(is_ready, "the program is ready")
        return program

    def wait_until(self, condition, what, timeout_s=DEADLINE_S):
        try:
            wait_until(condition, timeout_s=timeout_s)
        except AssertionError:
            outputs = "\n".join(f"-- {each.pid}:\n{each.output}" for each in self.programs)
            raise AssertionError(
                f"it did not come true in {timeout_s} s that {what}; "
                f"counts {self.counts()}\n{outputs[-4000:]}"
            ) from None

    def wait_until_drained(self, timeout_s=DEADLINE_S):
        """Wait until there is nothing left to run."""
        self.wait_until(lambda: not sum(self.counts()[:3]), "the queue is empty", timeout_s)

    def query(self, sql, *arguments):
        with closing(sqlite3.connect(self.database, timeout=DEADLINE_S)) as connection:
            return connection.execute(sql, arguments).fetchall()

    def counts(self):
        """Return how many messages are ready, delayed, leased and dead."""
        found = dict(self.query("SELECT state, count(*) FROM messages GROUP BY state"))
        return [found.get(state, 0) for state in range(4)]

    def check_store(self):
        """Check that the file is whole and every invariant holds."""
        assert self.query("PRAGMA integrity_check") == [("ok",)]
        broken = {name: rows for name, sql in INVARIANTS.items() if (rows := self.query(sql))}
        assert not broken, broken

    def leased_to(self, pid):
        """Return how many messages the store says a process holds."""
        sql = "SELECT count(*) FROM messages WHERE owner IN (SELECT id FROM workers WHERE pid = ?)"
        return self.query(sql, pid)[0][0]

    def running(self, pid):
        """Return what a process has started and not ended, by the ledger."""
        entries = [entry for entry in self.ledger.entries() if entry.pid == pid]
        started = {entry.number for entry in entries if entry.kind == "start"}
        return started - {entry.number for entry in entries if entry.kind == "end"}


@contextmanager
def open_site(directory, make=Site, **options):
    """Make a site; whatever runs there ends with it."""
    site = make(directory, **options)
    try:
        yield site
    finally:
        site.clean_up()

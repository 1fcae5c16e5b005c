"""Run the same application under the published Dramatiq 2.x and under this library, on one server.

A console is a process that holds the application and does what it is told; it serves many tests,
one after another. Worker processes are started with the real command line.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dramatiq.testing.waiting import wait_until
from tests.chaos.harness import DEADLINE_S, Program
from tests.rabbitmq import QuickBroker, delete_queues, read_all

OURS, OLD = "ours", "2.2.1"
FLEETS = (OURS, OLD)

PROGRAMS = Path(__file__).with_name("programs")
ROOT = Path(__file__).parents[2]
#: Where `make .venv-2x` puts the published version.
OLD_PYTHON = ROOT / ".venv-2x/bin/python"

PYTHONS = {OURS: sys.executable, OLD: str(OLD_PYTHON)}


class RemoteError(Exception):
    """What a console's code raised."""

    def __init__(self, text, bases):
        super().__init__(f"{bases[0]}: {text}")
        self.bases = bases


class Console:
    """A process of one fleet that holds the application; call it with code to run there."""

    def __init__(self, fleet, directory):
        self.fleet = fleet
        self.log = directory / f"console-{fleet}-{os.urandom(4).hex()}"
        self._logged_before = 0
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [PYTHONS[fleet], str(PROGRAMS / "console.py")],
                env={**os.environ, "APP_FLEET": fleet, "dramatiq_restart_delay": "100"},
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self):
        """What it has logged since its application was loaded."""
        return self.log.read_bytes()[self._logged_before :].decode(errors="replace")

    def load(self, **settings):
        """Load the application anew, with other settings."""
        self._logged_before = self.log.stat().st_size
        settings = {name: str(value) for name, value in settings.items()}
        self(f"load(**{settings!r})")

    def __call__(self, code, timeout_s=DEADLINE_S):
        """Run code there; return the value of an expression, as far as JSON can tell it."""
        self.process.stdin.write(json.dumps({"code": code}).encode() + b"\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], timeout_s)[0]:
            raise AssertionError(f"no answer in {timeout_s} s to {code}:\n{self.output[-4000:]}")
        answer = self.process.stdout.readline()
        assert answer, f"the console ended at {code}:\n{self.output[-4000:]}"
        answer = json.loads(answer)
        if "error" in answer:
            raise RemoteError(answer["error"], answer["bases"])
        return answer["value"]

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        with suppress(BrokenPipeError):  # a request may be left that a dead process cannot take
            self.process.stdin.close()
        self.process.stdout.close()


class Consoles:
    """The consoles of a whole test session, by fleet and number."""

    def __init__(self, directory):
        self.directory = directory
        self.open = {}

    def get(self, key):
        console = self.open.get(key)
        if console is None or console.process.poll() is not None:
            console = self.open[key] = Console(key[0], self.directory)
        return console

    def drop(self, console):
        console.kill()
        self.open = {key: each for key, each in self.open.items() if each is not console}

    def close(self):
        for console in self.open.values():
            console.kill()


class Entry(NamedTuple):
    kind: str
    number: int
    fleet: str
    pid: int
    at_ns: int


class Ledger:
    """What the actors of all processes of a test wrote down."""

    def __init__(self, path):
        self.path = path

    def entries(self, kind=None):
        with suppress(FileNotFoundError):
            # The last line may be on its way.
            lines = [line.split() for line in self.path.read_text().split("\n")[:-1]]
            entries = [Entry(k, int(n), fleet, int(pid), int(at)) for k, n, fleet, pid, at in lines]
            return [entry for entry in entries if kind in (None, entry.kind)]
        return []

    def count(self, kind="end"):
        return len(self.entries(kind))

    def numbers(self, kind="end"):
        return sorted(entry.number for entry in self.entries(kind))

    def fleets(self, kind="end"):
        return {entry.fleet for entry in self.entries(kind)}

    def repeated(self, kind="end"):
        """Return the numbers that are there more than once."""
        counts = Counter(self.numbers(kind))
        return sorted(number for number, count in counts.items() if count > 1)


class Site:
    """One namespace on one server, a ledger, and whatever works there."""

    def __init__(self, directory, server, namespace, consoles, **settings):
        self.directory = directory
        self.server = server
        self.ledger = Ledger(directory / "ledger")
        self.redis = server.client(decode_responses=True)
        self.namespace = namespace
        self.settings = {
            "port": server.port,
            "namespace": namespace,
            "ledger": self.ledger.path,
            **settings,
        }
        self._consoles = consoles
        self._used = {}
        self._programs = []

    def console(self, fleet, number=0, **settings):
        """Return a console of that fleet with the application loaded for this site."""
        key = (fleet, number)
        if key not in self._used:
            console = self._used[key] = self._consoles.get(key)
            console.load(**{**self.settings, **settings})
        return self._used[key]

    def start_processes(self, fleet, *arguments, **settings):
        """Start the command line of that fleet with one worker process."""
        settings = {**self.settings, **settings}
        program = Program(
            [
                *(PYTHONS[fleet], "-m", "dramatiq", "app", "--path", str(PROGRAMS)),
                *("--processes", "1", "--threads", "4", *map(str, arguments)),
            ],
            self.directory / f"output-{len(self._programs)}-{fleet}",
            {
                "APP_FLEET": fleet,
                "dramatiq_restart_delay": "100",
                **{f"APP_{name.upper()}": str(value) for name, value in settings.items()},
            },
        )
        self._programs.append(program)
        return program

    def kill(self, program):
        """End all its processes at once, as the death of a machine would."""
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()

    def comes_true(self, condition, timeout_s=DEADLINE_S):
        try:
            wait_until(condition, timeout_s=timeout_s)
        except AssertionError:
            return False
        return True

    def wait_until(self, condition, what, timeout_s=DEADLINE_S):
        if not self.comes_true(condition, timeout_s):
            outputs = [each.output for each in (*self._used.values(), *self._programs)]
            raise AssertionError(
                f"it did not come true in {timeout_s} s that {what}; "
                f"left {self.left()}, ledger {self.ledger.entries()[-10:]}\n"
                + "\n--\n".join(output[-3000:] for output in outputs)
            )

    def wait_for(self, count, kind="end", timeout_s=DEADLINE_S):
        """Wait until the ledger has so many lines of a kind."""
        self.wait_until(
            lambda: self.ledger.count(kind) >= count, f"{count} times {kind}", timeout_s
        )

    def wait_until_drained(self, timeout_s=DEADLINE_S):
        self.wait_until(lambda: not any(self.left().values()), "nothing is left", timeout_s)

    def key(self, name):
        return f"{self.namespace}:{name}"

    def left(self, *queues):
        """Return how many messages there are at one moment, by queue and delay queue."""
        queues = queues or ("default", "left", "right")
        names = [name for queue in queues for name in (queue, f"{queue}.DQ")]
        # In one transaction: a message that moves meanwhile must not be overlooked.
        with self.redis.pipeline() as pipeline:
            for name in names:
                pipeline.hlen(self.key(f"{name}.msgs"))
            return dict(zip(names, pipeline.execute(), strict=True))

    def waiting(self, name="default"):
        return self.redis.llen(self.key(name))

    def leased(self, name="default"):
        """Return the ids that workers hold, by the acks set they stand in."""
        found = self.redis.scan_iter(self.key(f"__acks__.*.{name}"), count=1000)
        return {key: self.redis.smembers(key) for key in found}

    def dead(self, queue="default"):
        """Return dead letters by id, as a dashboard reads them."""
        with self.redis.pipeline() as pipeline:
            pipeline.zrange(self.key(f"{queue}.XQ"), 0, -1)
            pipeline.hgetall(self.key(f"{queue}.XQ.msgs"))
            ids, payloads = pipeline.execute()
        assert set(ids) == set(payloads)
        return {identifier: json.loads(payload) for identifier, payload in payloads.items()}

    def send_raw(self, number, queue="default", **options):
        """Send with two commands, as the documentation tells clients in other languages to.

        Returns:
            The identifier of the message in Redis.
        """
        identifier = self.store_raw(number, queue, **options)
        self.redis.rpush(self.key(queue), identifier)
        return identifier

    def store_raw(self, number, queue="default", **options):
        """Do the first half of it: no worker sees the message yet."""
        identifier = str(uuid.uuid4())
        payload = {
            "queue_name": queue,
            "actor_name": "work",
            "args": [number],
            "kwargs": {},
            "options": {"redis_message_id": identifier, **options},
            "message_id": str(uuid.uuid4()),
            "message_timestamp": int(time.time() * 1000),
        }
        text = json.dumps(payload, separators=(",", ":"))
        self.redis.hset(self.key(f"{queue}.msgs"), identifier, text)
        return identifier

    def close(self):
        self.close_programs()
        self.redis.close()

    def close_programs(self):
        for program in self._programs:
            program.clean_up()
        for console in self._used.values():
            try:
                console("finish_app()", timeout_s=15)
            except (AssertionError, RemoteError, OSError):
                self._consoles.drop(console)


class RabbitmqSite(Site):
    """One queue on a RabbitMQ server, a ledger, and whatever works there."""

    def __init__(self, directory, server, queue_name, consoles, **settings):
        self.directory = directory
        self.server = server
        self.ledger = Ledger(directory / "ledger")
        self.queue_name = queue_name
        self.settings = {
            "program": "rabbitmq_app.py",
            "port": server.port,
            "queue": queue_name,
            "ledger": self.ledger.path,
            **settings,
        }
        self._consoles = consoles
        self._used = {}
        self._programs = []
        #: Looks and counts with its own means, on other queues than a worker's.
        self.observer = QuickBroker(url=server.url)
        self.observer.declare_queue(queue_name)

    def left(self, *_):
        """Return how many messages wait, now or for their time; not those that workers hold."""
        ready, delayed, _ = self.observer.topology.count_queue(self.queue_name)
        return {"ready": ready, "delayed": delayed}

    def waiting(self, name="default"):
        name = name.replace("default", self.queue_name)
        return self.observer.topology.count([name])[0] or 0

    def dead(self):
        """Return dead letters, as (message, headers)."""
        found = read_all(self.observer, f"{self.queue_name}.XQ")
        return [(json.loads(body), properties.headers or {}) for body, properties in found]

    def close(self):
        self.close_programs()
        delete_queues(self.observer)
        self.observer.close()

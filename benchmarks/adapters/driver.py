"""Run one step of a benchmark inside the environment of the system that is measured.

The harness calls ``python -m benchmarks.adapters.driver ADAPTER STEP [NUMBER …]`` and reads one
line of JSON. All systems are timed here, by the same code. Both the steps and the workers find in
the environment where the store and the marks are, and which settings to use.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from benchmarks.marks import Marks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Adapter", "greeting", "marks", "settings", "store", "url"]

#: Seconds a greeting takes, so that one quick process does not answer them all.
GREETING_S = 0.02
#: Seconds an idle worker waits for the next message of the latency workload, at least and at most.
PAUSES_S = (0.005, 0.025)
#: Seconds to wait for one message of the latency workload.
START_TIMEOUT_S = 30.0
#: Fixed, so that every system sees the same pauses.
SEED = 20


class Adapter(Protocol):
    """What the module of a system offers. Indices name messages; each is marked when it runs.

    It may also have ``fill`` and ``nap_many``, like ``send_many``: for filling a queue when that
    is not measured, and for async tasks of one second or, with a second argument, of so many;
    ``doze_many``, the same for plain tasks that block; ``send_foreign``, like ``send`` but past the
    system's own code; and ``ask``, like ``send``, which returns a function that waits for the
    result, the index; ``fan_in``, a group of no-ops and one more after all of them.
    """

    def version(self) -> str:
        """Return the version of the system."""

    def send(self, index: int) -> None:
        """Enqueue one no-op that marks its index."""

    def send_many(self, indices: Sequence[int]) -> None:
        """Enqueue many of them, the quickest way the system documents."""

    def greet(self) -> None:
        """Enqueue one message that calls `greeting`."""

    def commands(self, processes: int, threads: int) -> list[list[str]]:
        """Return the command lines that start the workers."""


def dramatiq_command(module: str, processes: int, threads: int) -> list[str]:
    """Return the command that starts workers of a Dramatiq, this one or another."""
    if "gevent" in settings():
        program = [str(Path(sys.executable).with_name("dramatiq-gevent"))]
    else:
        program = [sys.executable, "-m", "dramatiq"]
    return [*program, module, "-p", str(processes), "-t", str(threads)]


def our_options() -> list[str]:
    """Return the options of our command line that the settings stand for."""
    chosen = settings()
    options = ["--async-slots", str(chosen["async_slots"])] if "async_slots" in chosen else []
    return [*options, "--use-spawn"] if "spawn" in chosen else options


def marks() -> Marks:
    """Return the marks of this run."""
    return Marks(Path(os.environ["BENCHMARK_MARKS"]))


def store() -> Path:
    """Return the file where the system is to keep its messages."""
    return Path(os.environ["BENCHMARK_STORE"])


def url() -> str:
    """Return the URL of the server where the system is to keep its messages."""
    return os.environ["BENCHMARK_STORE"]


def settings() -> dict[str, Any]:
    """Return the settings of the variant that is measured."""
    return cast("dict[str, Any]", json.loads(os.environ.get("BENCHMARK_SETTINGS", "{}")))


def greeting(here: Marks) -> None:
    """Show that this process works, as slowly as others need to show it too."""
    here.greet()
    time.sleep(GREETING_S)


def _timed(count: int, action: Callable[[], object]) -> dict[str, float]:
    cpu, start = time.process_time(), time.perf_counter()
    action()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"rate": count / seconds, "cpu_us": cpu / count * 1e6}


def _send(adapter: Adapter, count: int) -> dict[str, float]:
    def send_all() -> None:
        send = adapter.send
        for index in range(count):
            send(index)

    return _timed(count, send_all)


def _latency(send: Callable[[int], object], count: int) -> dict[str, list[float]]:
    here, pauses, delays_ms = marks(), random.Random(SEED), []
    for index in range(count):
        time.sleep(pauses.uniform(*PAUSES_S))
        sent = time.monotonic_ns()
        send(index)
        while not here.is_marked(index):
            if time.monotonic_ns() - sent > START_TIMEOUT_S * 1e9:
                raise TimeoutError(f"Message {index} did not start within {START_TIMEOUT_S} s.")
            time.sleep(0.001)
        delays_ms.append((here.moments(count)[index] - sent) / 1e6)
    return {"delays_ms": delays_ms}


def _ask(adapter: Any, count: int) -> dict[str, float]:
    def ask_all() -> None:
        waits = [adapter.ask(index) for index in range(count)]
        for index, wait in enumerate(waits):
            if wait() != index:
                raise ValueError(f"Message {index} has another's result.")

    return _timed(count, ask_all)


def _greet(adapter: Adapter, count: int) -> None:
    for _ in range(count):
        adapter.greet()


STEPS: dict[str, Callable[..., object]] = {
    "version": lambda adapter: adapter.version(),
    "commands": lambda adapter, processes, threads: adapter.commands(processes, threads),
    "greet": _greet,
    "send": _send,
    "send_many": lambda adapter, count: _timed(count, lambda: adapter.send_many(range(count))),
    "fill": lambda adapter, count: getattr(adapter, "fill", adapter.send_many)(range(count)),
    "fan_in": lambda adapter, count: _timed(count, lambda: adapter.fan_in(range(count), count)),
    "latency": lambda adapter, count: _latency(adapter.send, count),
    "latency_foreign": lambda adapter, count: _latency(adapter.send_foreign, count),
    "ask": _ask,
    "nap_many": lambda adapter, count: adapter.nap_many(range(count)),
    "doze_ms_many": lambda adapter, count, ms: adapter.doze_many(range(count), ms / 1000),
    "nap_ms_many": lambda adapter, count, ms: adapter.nap_many(range(count), ms / 1000),
}


def main() -> None:
    """Run the step that the command line names and print what it found."""
    name, step, *numbers = sys.argv[1:]
    adapter = importlib.import_module(f"benchmarks.adapters.{name}")
    print(json.dumps(STEPS[step](adapter, *map(int, numbers))))


if __name__ == "__main__":
    main()

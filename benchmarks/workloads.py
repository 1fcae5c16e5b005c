"""What is measured: each workload is a function from a system to named figures."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .processes import cpu_seconds, memory_mib, thaw
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from .systems import System

__all__ = ["WORKLOADS", "Metric", "Workload"]

PROCESSES = 2
THREADS = 8
#: Messages per run, for each workload.
SENDS = 2_000
BULK_SENDS = 50_000
DRAINED = 20_000
IDLE_SENDS = 100
NAPS = 1_000
#: Imports per run, each beside a bare start of the interpreter.
IMPORTS = 7
#: Seconds to wait for all messages of a run.
DRAIN_TIMEOUT_S = 60
#: Seconds after the last message until its settlement is on disk, and until workers are idle.
SETTLE_S = 0.15
IDLE_S = 0.7


@dataclass(frozen=True)
class Metric:
    """A figure of a workload: its name in tables, its unit, and which direction is good."""

    name: str
    unit: str
    is_rate: bool = False


@dataclass(frozen=True)
class Workload:
    """A way to load a system.

    Attributes:
        run: Measures a system once; returns a value for some or all of the metrics.
        metrics: What it measures, by the keys that `run` returns.
        roles: Which systems can do it.
    """

    run: Callable[[System], dict[str, float]]
    metrics: dict[str, Metric]
    roles: frozenset[str] = frozenset({"ours", "peer", "limit"})


def _send(system: System) -> dict[str, float]:
    with Session(system, SENDS) as session:
        return dict(session.step("send", SENDS))


def _send_many(system: System) -> dict[str, float]:
    # A peer without a bulk call sends one by one, and would take minutes for as many.
    count = BULK_SENDS if system.role != "peer" else SENDS
    with Session(system, count) as session:
        return dict(session.step("send_many", count))


def _drain(system: System) -> dict[str, float]:
    with Session(system, DRAINED) as session:
        session.start(PROCESSES, THREADS)
        # Frozen while the queue fills: all start together, on a full queue, warmed up.
        pids = session.freeze()
        session.step("fill", DRAINED)
        cpu = cpu_seconds(pids)
        thaw(pids)
        moments = session.marks.wait(DRAINED, DRAIN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        cpu = cpu_seconds(pids) - cpu
        seconds = (max(moments) - min(moments)) / 1e9
        return {"rate": (DRAINED - 1) / seconds, "cpu_us": cpu / DRAINED * 1e6}


def _latency(system: System) -> dict[str, float]:
    with Session(system, IDLE_SENDS) as session:
        session.start(PROCESSES, THREADS)
        delays = session.step("latency", IDLE_SENDS)["delays_ms"]
        percentiles = statistics.quantiles(delays, n=100, method="inclusive")
        return {"p50_ms": percentiles[49], "p99_ms": percentiles[98]}


def _naps(system: System) -> dict[str, float]:
    with Session(system, NAPS, {"async_slots": NAPS}) as session:
        session.start(1, THREADS)
        pids = session.freeze()
        session.step("nap_many", NAPS)
        cpu, start = cpu_seconds(pids), time.monotonic_ns()
        thaw(pids)
        moments = session.marks.wait(NAPS, DRAIN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        cpu = cpu_seconds(pids) - cpu
        return {"seconds": (max(moments) - start) / 1e9, "cpu_us": cpu / NAPS * 1e6}


def _memory(system: System) -> dict[str, float]:
    with Session(system, 1) as session:
        session.start(PROCESSES, THREADS)
        time.sleep(IDLE_S)
        pids = session.worker_pids
        cpu = cpu_seconds(pids)
        time.sleep(IDLE_S)
        cpu = cpu_seconds(pids) - cpu
        return {"memory_mib": memory_mib(pids), "cpu_ms": cpu / IDLE_S * 1000}


def _boot(system: System) -> dict[str, float]:
    with Session(system, 1) as session:
        session.step("send", 1)
        commands = session.step("commands", PROCESSES, THREADS)
        start = time.monotonic_ns()
        session.launch(commands)
        figures = {}
        if system.ready_line:
            session.wait_for_ready_lines(PROCESSES)
            figures["ready_ms"] = (time.monotonic_ns() - start) / 1e6
        (moment,) = session.marks.wait(1, DRAIN_TIMEOUT_S)
        return figures | {"boot_ms": (moment - start) / 1e6}


def _import(system: System) -> dict[str, float]:
    def start_ms(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([system.python(), "-c", code], env=system.variables(), check=True)
        return (time.perf_counter() - start) * 1000

    code = f"import {system.package}"
    start_ms(code)  # compiles what no run before has compiled
    return {"import_ms": statistics.median(start_ms(code) - start_ms("") for _ in range(IMPORTS))}


WORKLOADS = {
    "enqueue": Workload(
        _send,
        {
            "rate": Metric("enqueue one by one", "messages/s", is_rate=True),
            "cpu_us": Metric("enqueue one by one, sender's CPU", "µs/message"),
        },
    ),
    "bulk": Workload(
        _send_many,
        {
            "rate": Metric("enqueue in bulk", "messages/s", is_rate=True),
            "cpu_us": Metric("enqueue in bulk, sender's CPU", "µs/message"),
        },
    ),
    "drain": Workload(
        _drain,
        {
            "rate": Metric("drain of no-ops", "messages/s", is_rate=True),
            "cpu_us": Metric("drain of no-ops, workers' CPU", "µs/message"),
        },
    ),
    "latency": Workload(
        _latency,
        {
            "p50_ms": Metric("send to start when idle, p50", "ms"),
            "p99_ms": Metric("send to start when idle, p99", "ms"),
        },
    ),
    "async": Workload(
        _naps,
        {
            "seconds": Metric("1,000 async tasks of 1 s, 1,000 slots", "s"),
            "cpu_us": Metric("1,000 async tasks of 1 s, worker's CPU", "µs/message"),
        },
        frozenset({"ours"}),
    ),
    "memory": Workload(
        _memory,
        {
            "memory_mib": Metric("memory when idle (PSS, 2 workers and watchers)", "MiB"),
            "cpu_ms": Metric("CPU when idle", "ms/s"),
        },
    ),
    "boot": Workload(
        _boot,
        {
            "boot_ms": Metric("start to first message finished", "ms"),
            "ready_ms": Metric("start to all processes ready", "ms"),
        },
    ),
    "import": Workload(
        _import,
        {"import_ms": Metric("import, above a bare interpreter", "ms")},
        frozenset({"ours", "peer"}),
    ),
}

"""What is measured: each workload is a function from a system to named figures."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .processes import cpu_seconds, freeze, memory_mib, thaw
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
CHILDREN = 10_000
IDLE_SENDS = 300
NAPS = 1_000
CROWD = 10_000
SHORT_NAPS = 10_000
DOZES = 10_000
#: Milliseconds of a doze, and how many greenlets each process has for them.
DOZE_MS = 100
GREENLETS = 250
RESULTS = 5_000
#: Milliseconds of a short nap, and how many may be waiting in each process.
SHORT_NAP_MS = 10
SHORT_NAP_SLOTS = 500
#: Messages that stay queued while `DRAINED` are drained.
BACKLOGS = {"small": 10_000, "large": 1_000_000}
#: Messages that are queued at first and all drained, and a tenth of them.
QUEUED = 500_000
TENTH = QUEUED // 10
#: Imports per run, each beside a bare start of the interpreter.
IMPORTS = 7
#: Seconds to wait for all messages of a run.
DRAIN_TIMEOUT_S = 60
#: Seconds after the last message until its settlement is on disk, and until workers are idle.
SETTLE_S = 0.15
IDLE_S = 0.7
#: Seconds an idle system is watched: long enough for heartbeats and the like.
WATCH_S = 10.0


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
        stores: On which kinds of store.
        setting: What a system must have among its settings; empty for nothing.
    """

    run: Callable[[System], dict[str, float]]
    metrics: dict[str, Metric]
    roles: frozenset[str] = frozenset({"ours", "peer", "limit"})
    stores: frozenset[str] = frozenset({"sqlite", "redis", "rabbitmq", "postgres"})
    setting: str = ""

    def fits(self, system: System) -> bool:
        """Tell whether the system can do it."""
        has_setting = not self.setting or self.setting in system.settings
        return has_setting and system.role in self.roles and system.store in self.stores


def _send(system: System) -> dict[str, float]:
    with Session(system, SENDS) as session:
        before = session.usage()
        figures: dict[str, float] = session.step("send", SENDS)
        return _per_message(before, session.usage(), SENDS) | figures


def _send_many(system: System) -> dict[str, float]:
    # A peer without a bulk call sends one by one, and would take minutes for as many.
    count = BULK_SENDS if system.role != "peer" else SENDS
    with Session(system, count) as session:
        before = session.usage()
        figures: dict[str, float] = session.step("send_many", count)
        return _per_message(before, session.usage(), count) | figures


def _drain(system: System) -> dict[str, float]:
    with Session(system, DRAINED) as session:
        session.start(PROCESSES, THREADS)
        # Frozen while the queue fills: all start together, on a full queue, warmed up.
        pids = session.freeze()
        session.step("fill", DRAINED)
        before = session.usage(pids)
        thaw(pids)
        moments = session.marks.wait(DRAINED, DRAIN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        figures = _per_message(before, session.usage(pids), DRAINED)
        seconds = (max(moments) - min(moments)) / 1e9
        return figures | {"rate": (DRAINED - 1) / seconds}


def _fan_in(system: System) -> dict[str, float]:
    with Session(system, CHILDREN + 1) as session:
        session.start(PROCESSES, THREADS)
        pids = session.freeze()
        before = session.usage(pids)
        started = session.step("fan_in", CHILDREN)
        thaw(pids)
        moments = session.marks.wait(CHILDREN + 1, DRAIN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        figures = _per_message(before, session.usage(pids), CHILDREN)
        seconds = (moments[CHILDREN] - min(moments)) / 1e9
        return figures | {"rate": CHILDREN / seconds, "sender_us": started["cpu_us"]}


def _per_message(before: dict[str, float], after: dict[str, float], count: int) -> dict[str, float]:
    return {key: (after[key] - before[key]) / count for key in after}


def _backlog(system: System) -> dict[str, float]:
    usages = {}
    for name, backlog in BACKLOGS.items():
        count = backlog + DRAINED
        with Session(system, count) as session:
            session.start(PROCESSES, THREADS)
            pids = session.freeze()
            session.step("fill", count)
            before = session.usage(pids)
            thaw(pids)
            session.marks.wait(DRAINED, DRAIN_TIMEOUT_S)
            freeze(pids)
            done = count - session.marks.moments(count).count(0)
            usages[name] = _per_message(before, session.usage(pids), done)
    small, large = usages["small"], usages["large"]
    return large | {f"{key}_growth": large[key] / small[key] for key in ("cpu_us", "redis_us")}


def _queued(system: System) -> dict[str, float]:
    with Session(system, QUEUED) as session:
        session.start(PROCESSES, THREADS)
        pids = session.freeze()
        session.step("fill", QUEUED)
        before = session.usage(pids)
        thaw(pids)
        moments = sorted(session.marks.wait(QUEUED, DRAIN_TIMEOUT_S))
        time.sleep(SETTLE_S)
        figures = _per_message(before, session.usage(pids), QUEUED)
    seconds = [(moments[end] - moments[end - TENTH]) / 1e9 for end in (TENTH, QUEUED - 1)]
    total_s = (moments[-1] - moments[0]) / 1e9
    return figures | {"rate": (QUEUED - 1) / total_s, "growth": seconds[1] / seconds[0]}


def _results(system: System) -> dict[str, float]:
    with Session(system, RESULTS, {"results": True}) as session:
        session.start(PROCESSES, THREADS)
        pids = session.worker_pids
        before = session.usage(pids)
        figures = session.step("ask", RESULTS)
        usage = _per_message(before, session.usage(pids), RESULTS)
        return usage | {"rate": figures["rate"], "sender_us": figures["cpu_us"]}


def _latency(system: System) -> dict[str, float]:
    return _delays(system, "latency")


def _latency_foreign(system: System) -> dict[str, float]:
    return _delays(system, "latency_foreign")


def _delays(system: System, step: str) -> dict[str, float]:
    with Session(system, IDLE_SENDS) as session:
        session.start(PROCESSES, THREADS)
        delays = session.step(step, IDLE_SENDS)["delays_ms"]
        percentiles = statistics.quantiles(delays, n=100, method="inclusive")
        return {"p50_ms": percentiles[49], "p99_ms": percentiles[98]}


def _short_naps(system: System) -> dict[str, float]:
    with Session(system, SHORT_NAPS, {"async_slots": SHORT_NAP_SLOTS}) as session:
        session.start(PROCESSES, THREADS)
        pids = session.freeze()
        session.step("nap_ms_many", SHORT_NAPS, SHORT_NAP_MS)
        before, start = session.usage(pids), time.monotonic_ns()
        thaw(pids)
        moments = session.marks.wait(SHORT_NAPS, DRAIN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        figures = _per_message(before, session.usage(pids), SHORT_NAPS)
        return figures | {"rate": SHORT_NAPS / ((max(moments) - start) / 1e9)}


def _greenlets(system: System) -> dict[str, float]:
    with Session(system, DOZES) as session:
        session.start(PROCESSES, GREENLETS)
        pids = session.freeze()
        session.step("doze_ms_many", DOZES, DOZE_MS)
        before, start = session.usage(pids), time.monotonic_ns()
        thaw(pids)
        moments = session.marks.wait(DOZES, DRAIN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        usage = _per_message(before, session.usage(pids), DOZES)
        return {"seconds": (max(moments) - start) / 1e9, "cpu_us": usage["cpu_us"]}


def _idle(system: System) -> dict[str, float]:
    with Session(system, 1) as session:
        session.start(PROCESSES, THREADS)
        time.sleep(IDLE_S)
        pids = session.worker_pids
        before = session.usage(pids)
        rate = session.store.commands_per_second(WATCH_S)
        usage = _per_message(before, session.usage(pids), 1)
        return {"commands": rate} | {
            "cpu_ms": usage["cpu_us"] / 1000 / WATCH_S,
            "redis_ms": usage["redis_us"] / 1000 / WATCH_S,
        }


def _naps(system: System) -> dict[str, float]:
    return _sleep_together(system, NAPS)


def _crowd(system: System) -> dict[str, float]:
    return _sleep_together(system, CROWD)


def _sleep_together(system: System, count: int) -> dict[str, float]:
    with Session(system, count, {"async_slots": count}) as session:
        session.start(1, THREADS)
        pids = session.freeze()
        session.step("nap_many", count)
        cpu, start = cpu_seconds(pids), time.monotonic_ns()
        thaw(pids)
        moments = session.marks.wait(count, DRAIN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        cpu = cpu_seconds(pids) - cpu
        return {"seconds": (max(moments) - start) / 1e9, "cpu_us": cpu / count * 1e6}


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
            "redis_us": Metric("enqueue one by one, Redis CPU", "µs/message"),
            "trips": Metric("enqueue one by one, round trips", "per message"),
        },
    ),
    "bulk": Workload(
        _send_many,
        {
            "rate": Metric("enqueue in bulk", "messages/s", is_rate=True),
            "cpu_us": Metric("enqueue in bulk, sender's CPU", "µs/message"),
            "redis_us": Metric("enqueue in bulk, Redis CPU", "µs/message"),
            "trips": Metric("enqueue in bulk, round trips", "per message"),
        },
    ),
    "drain": Workload(
        _drain,
        {
            "rate": Metric("drain of no-ops", "messages/s", is_rate=True),
            "cpu_us": Metric("drain of no-ops, workers' CPU", "µs/message"),
            "redis_us": Metric("drain of no-ops, Redis CPU", "µs/message"),
            "trips": Metric("drain of no-ops, round trips", "per message"),
        },
    ),
    "fan_in": Workload(
        _fan_in,
        {
            "rate": Metric("group of 10,000 with a step after it", "children/s", is_rate=True),
            "sender_us": Metric("group of 10,000, sender's CPU", "µs/child"),
            "cpu_us": Metric("group of 10,000, workers' CPU", "µs/child"),
            "redis_us": Metric("group of 10,000, Redis CPU", "µs/child"),
            "trips": Metric("group of 10,000, round trips", "per child"),
        },
        frozenset({"ours"}),
        frozenset({"redis", "sqlite"}),
    ),
    "backlog": Workload(
        _backlog,
        {
            "cpu_us": Metric("drain with 1,000,000 behind, workers' CPU", "µs/message"),
            "redis_us": Metric("drain with 1,000,000 behind, Redis CPU", "µs/message"),
            "cpu_us_growth": Metric("the same over 10,000 behind, workers' CPU", "×"),
            "redis_us_growth": Metric("the same over 10,000 behind, Redis CPU", "×"),
        },
        stores=frozenset({"redis"}),
    ),
    "queued": Workload(
        _queued,
        {
            "rate": Metric("drain of 500,000 no-ops", "messages/s", is_rate=True),
            "cpu_us": Metric("drain of 500,000 no-ops, workers' CPU", "µs/message"),
            "growth": Metric("the same, time of the last tenth over the first", "×"),
        },
        stores=frozenset({"postgres"}),
    ),
    "latency": Workload(
        _latency,
        {
            "p50_ms": Metric("send to start when idle, p50", "ms"),
            "p99_ms": Metric("send to start when idle, p99", "ms"),
        },
    ),
    "foreign": Workload(
        _latency_foreign,
        {
            "p50_ms": Metric("foreign send to start when idle, p50", "ms"),
            "p99_ms": Metric("foreign send to start when idle, p99", "ms"),
        },
        stores=frozenset({"redis"}),
    ),
    "idle": Workload(
        _idle,
        {
            "commands": Metric("commands when idle, 2 workers, 1 queue", "per second"),
            "cpu_ms": Metric("workers' CPU when idle", "ms/s"),
            "redis_ms": Metric("Redis CPU when idle", "ms/s"),
        },
        stores=frozenset({"redis"}),
    ),
    "results": Workload(
        _results,
        {
            "rate": Metric("send and wait for 5,000 results", "messages/s", is_rate=True),
            "cpu_us": Metric("send and wait, workers' CPU", "µs/message"),
            "sender_us": Metric("send and wait, sender's CPU", "µs/message"),
            "redis_us": Metric("send and wait, Redis CPU", "µs/message"),
            "trips": Metric("send and wait, round trips", "per message"),
        },
        frozenset({"ours", "peer"}),
        frozenset({"redis"}),
    ),
    "io": Workload(
        _short_naps,
        {
            "rate": Metric("async tasks of 10 ms", "messages/s", is_rate=True),
            "cpu_us": Metric("async tasks of 10 ms, workers' CPU", "µs/message"),
            "redis_us": Metric("async tasks of 10 ms, Redis CPU", "µs/message"),
        },
        frozenset({"ours", "peer"}),
        frozenset({"redis"}),
    ),
    "async": Workload(
        _naps,
        {
            "seconds": Metric("1,000 async tasks of 1 s, 1,000 slots", "s"),
            "cpu_us": Metric("1,000 async tasks of 1 s, worker's CPU", "µs/message"),
        },
        frozenset({"ours"}),
    ),
    "crowd": Workload(
        _crowd,
        {
            "seconds": Metric("10,000 async tasks of 1 s, 10,000 slots", "s"),
            "cpu_us": Metric("10,000 async tasks of 1 s, worker's CPU", "µs/message"),
        },
        frozenset({"ours"}),
    ),
    "greenlets": Workload(
        _greenlets,
        {
            "seconds": Metric("10,000 plain tasks of 100 ms on 2 × 250 greenlets", "s"),
            "cpu_us": Metric("10,000 plain tasks of 100 ms, workers' CPU", "µs/message"),
        },
        frozenset({"ours", "peer"}),
        setting="gevent",
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

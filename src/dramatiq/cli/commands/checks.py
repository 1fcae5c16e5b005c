"""Likely mistakes of an application: what `doctor` looks for beside what the broker tells."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ...inspection import Finding, Level
from ...results import Results
from ..calls import signature_of
from .units import as_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ...actor import Actor
    from ...inspection import QueueInfo, WorkerInfo

__all__ = ["check_actors", "check_queues", "check_settings", "check_time_limits", "check_workers"]

#: Milliseconds for which workers wait for what runs, by default.
SHUTDOWN_TIMEOUT_MS = 600_000
#: Settings of workers, with the least and the greatest value that makes sense.
SETTINGS = {
    "dramatiq_queue_prefetch": (1, 10_000),
    "dramatiq_delay_queue_prefetch": (1, 100_000),
    "dramatiq_worker_timeout": (1, 60_000),
    "dramatiq_restart_delay": (1, 600_000),
}


def check_settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the environment variables that workers read."""
    for name, (least, most) in SETTINGS.items():
        value = environment.get(name)
        if not value:
            continue
        if not value.isdecimal():
            yield Finding(Level.PROBLEM, f"{name} is {value!r}, and must be a whole number.")
        elif not least <= int(value) <= most:
            yield Finding(
                Level.PROBLEM, f"{name} is {value}; sensible are {least:,} to {most:,}. Unset it?"
            )
        else:
            yield Finding(Level.NOTE, f"{name} is set to {value}.")


def check_actors(
    actors: Iterable[Actor[Any, Any]], middleware: Sequence[Any], *, has_modules: bool
) -> Iterator[Finding]:
    """Look at the actors that were imported.

    Args:
        actors: The actors.
        middleware: The middleware of their broker.
        has_modules: Whether modules were named from which actors could come.
    """
    actors = list(actors)
    if has_modules and not actors:
        yield Finding(
            Level.PROBLEM,
            "No actor is declared by the modules that were named: name those that declare them.",
        )
    results = next((each for each in middleware if isinstance(each, Results)), None)
    for actor in actors:
        stores = actor.options.get("store_results", results is not None and results.store_results)
        if stores and results is None:
            yield Finding(
                Level.PROBLEM,
                f"Actor {actor.actor_name!r} asks for store_results, but the broker has no Results "
                "middleware: nothing is stored. Add one before the actors are declared.",
            )
        elif results is not None and not stores and _returns_something(actor):
            yield Finding(
                Level.NOTE,
                f"Actor {actor.actor_name!r} returns a value that is not stored: store_results is "
                "off for it.",
            )


def check_time_limits(actors: Iterable[Actor[Any, Any]]) -> Iterator[Finding]:
    """Look for actors that may run longer than a worker waits for them when it stops."""
    for actor in actors:
        limit_ms = actor.options.get("time_limit")
        if isinstance(limit_ms, int) and limit_ms > SHUTDOWN_TIMEOUT_MS:
            yield Finding(
                Level.NOTE,
                f"Actor {actor.actor_name!r} may run for {as_duration(limit_ms)}, and workers "
                f"that stop wait for {as_duration(SHUTDOWN_TIMEOUT_MS)} unless they are told "
                f"otherwise: --worker-shutdown-timeout {limit_ms}",
            )


def check_queues(
    queues: Iterable[QueueInfo], served: Iterable[str], *, has_actors: bool
) -> Iterator[Finding]:
    """Look at what the queues hold.

    Args:
        queues: The queues.
        served: The queues that actors use.
        has_actors: Whether there are any; without, nothing is said of queues without actors.
    """
    known = set(served)
    for queue in queues:
        if has_actors and queue.counts.unfinished and queue.name not in known:
            yield Finding(
                Level.PROBLEM,
                f"Queue {queue.name!r} holds {_messages(queue.counts.unfinished)}, and no actor "
                "here uses it. Is a module missing, or was the actor moved to another queue?",
            )
        if queue.is_paused:
            yield Finding(
                Level.NOTE, f"Queue {queue.name!r} is paused: dramatiq resume {queue.name}"
            )
        if queue.counts.dead:
            yield Finding(
                Level.NOTE,
                f"Queue {queue.name!r} has {queue.counts.dead:,} dead: dramatiq messages "
                f"--state dead --queue {queue.name}",
            )


def check_workers(workers: Sequence[WorkerInfo], queues: Iterable[QueueInfo]) -> Iterator[Finding]:
    """Look at the registered workers."""
    alive = [each for each in workers if each.is_alive]
    waiting = sum(each.counts.ready for each in queues if not each.is_paused)
    if waiting and not alive:
        yield Finding(
            Level.PROBLEM,
            f"{_messages(waiting)} ready to run, and no worker is alive. Start one: "
            "dramatiq MODULE",
        )
    for worker in workers:
        if not worker.is_alive:
            yield Finding(
                Level.NOTE,
                f"Worker {worker.worker_id} is dead and still registered, holding "
                f"{_messages(worker.leased)}; the next worker takes over what it held.",
            )
        elif worker.pid is None:
            yield Finding(
                Level.NOTE,
                f"Worker {worker.worker_id} does not say where it runs: it may be one of "
                "Dramatiq 2.x.",
            )


def _returns_something(actor: Actor[Any, Any]) -> bool:
    signature = signature_of(actor)
    nothing: tuple[Any, ...] = (None, "None", inspect.Signature.empty, "NoReturn", "Never")
    return signature is not None and signature.return_annotation not in nothing


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"

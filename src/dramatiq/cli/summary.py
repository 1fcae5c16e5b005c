"""What the user wants to see once at the start: broker, queues, actors, and likely mistakes."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from .imports import close_matches

if TYPE_CHECKING:
    import argparse
    import inspect
    from collections.abc import Collection

    from ..actor import Actor
    from ..broker import Broker
    from ..worker import Worker

#: A list longer than this is cut, and says by how much.
LISTED_AT_MOST = 12

#: The part of a URL between the user's name and the host. Greedy: passwords may hold an "@".
PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):\S*@")


def mask_password(url: str) -> str:
    """Replace the password in a URL by asterisks."""
    return PASSWORD.sub(r"\1:***@", url)


def describe(broker: Broker, worker: Worker, queues: Collection[str] | None) -> list[str]:
    """Describe what a worker serves.

    Args:
        broker: The broker.
        worker: The running worker.
        queues: The queues that were asked for; None or empty for all.

    Returns:
        Lines for the log.
    """
    lines = [f"broker: {describe_broker(broker)}"]
    by_queue = _actors_by_queue(broker)
    served = {name: by_queue[name] for name in by_queue if not queues or name in queues}
    lines += [f"queue {name}: {_listed(served[name])}" for name in sorted(served)[:LISTED_AT_MOST]]
    if len(served) > LISTED_AT_MOST:
        lines.append(f"and {len(served) - LISTED_AT_MOST} more queues")
    if not served:
        why = "none uses these queues" if by_queue else "nothing was imported that declares one"
        lines.append(f"no actor is served: {why}")
    async_mode = worker.async_mode_summary()
    if async_mode:
        lines.append(f"async actors: {async_mode}")
    return lines


def describe_broker(broker: Broker) -> str:
    """Return the class of the broker and, if it tells, its address without the password."""
    address = getattr(broker, "display_url", None)
    name = type(broker).__name__
    return f"{name} at {mask_password(address)}" if isinstance(address, str) else name


def warn_about_queues(broker: Broker, queues: Collection[str] | None) -> list[str]:
    """Return a line for every queue that was asked for and that no actor uses."""
    known = _actors_by_queue(broker)
    return [
        f"No actor uses queue {name!r} (known: {', '.join(sorted(known)) or 'none'})."
        + close_matches(name, known)
        for name in queues or ()
        if name not in known
    ]


def first_steps(args: argparse.Namespace, broker: Broker) -> list[str]:
    """Return how to send a first message, for `dramatiq dev`; nothing for others.

    Args:
        args: The command line.
        broker: The broker.
    """
    if not getattr(args, "is_dev", False) or not broker.actors:
        return []
    actor = broker.actors[min(broker.actors)]
    more = [word for name in getattr(args, "modules", ()) for word in ("-a", name)]
    words = ["dramatiq", "enqueue", args.broker, actor.actor_name, *_needed(actor), *more]
    prefix = getattr(args, "env_hint", "") if broker.chosen_because else ""
    return [
        f"send a message: {prefix}{shlex.join(words)}",
        f"watch the queues: {prefix}{shlex.join(['dramatiq', 'top', args.broker])}",
    ]


def signature_of(actor: Actor[Any, Any]) -> inspect.Signature | None:
    """Return what an actor takes; None for functions written in C that do not tell."""
    import inspect  # of little use to most who import this

    # The instance of a class-based actor takes anything and gives it to this method.
    function = getattr(actor.fn, "perform", actor.fn)
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _needed(actor: Actor[Any, Any]) -> list[str]:
    signature = signature_of(actor)
    return [
        each.name.upper()
        for each in (signature.parameters.values() if signature else ())
        if each.default is each.empty
        and each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}
    ]


def _actors_by_queue(broker: Broker) -> dict[str, list[str]]:
    by_queue: dict[str, list[str]] = {}
    for actor in broker.actors.values():
        by_queue.setdefault(actor.queue_name, []).append(actor.actor_name)
    return by_queue


def _listed(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:LISTED_AT_MOST])
    hidden = len(names) - LISTED_AT_MOST
    return f"{shown} and {hidden} more" if hidden > 0 else shown

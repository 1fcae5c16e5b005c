"""What the user wants to see once at the start: broker, queues, actors, and likely mistakes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..mistakes import close_match

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..broker import Broker
    from ..worker import Worker

#: A list longer than this is cut, and says by how much.
LISTED_AT_MOST = 12

#: The part of a URL between the user's name and the host. Greedy: passwords may hold an "@".
PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):\S*@")


def mask_password(url: str) -> str:
    """Replace the password in a URL by asterisks."""
    return PASSWORD.sub(r"\1:***@", url)


def describe(
    broker: Broker,
    worker: Worker,
    queues: Collection[str] | None,
    excluded: Collection[str] | None = None,
) -> list[str]:
    """Describe what a worker serves.

    Args:
        broker: The broker.
        worker: The running worker.
        queues: The queues that were asked for; None or empty for all.
        excluded: The queues that are not wanted.

    Returns:
        Lines for the log.
    """
    lines = [f"broker: {describe_broker(broker)}", *describe_queues(broker, queues, excluded)]
    lines += warn_about_actors(broker, queues, excluded)
    async_mode = worker.async_mode_summary()
    if async_mode:
        lines.append(f"async actors: {async_mode}")
    return lines


def describe_queues(
    broker: Broker, queues: Collection[str] | None, excluded: Collection[str] | None
) -> list[str]:
    """Return a line for each queue that is served, with its actors."""
    served = _served(_actors_by_queue(broker), queues, excluded)
    lines = [f"queue {name}: {_listed(served[name])}" for name in sorted(served)[:LISTED_AT_MOST]]
    if len(served) > LISTED_AT_MOST:
        lines.append(f"and {len(served) - LISTED_AT_MOST} more queues")
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
        + close_match(name, known)
        for name in queues or ()
        if name not in known
    ]


def warn_about_actors(
    broker: Broker, queues: Collection[str] | None, excluded: Collection[str] | None
) -> list[str]:
    """Return a line if no actor is served at all."""
    by_queue = _actors_by_queue(broker)
    if _served(by_queue, queues, excluded):
        return []
    why = "none uses these queues" if by_queue else "nothing was imported that declares one"
    return [f"no actor is served: {why}"]


def _served(
    by_queue: dict[str, list[str]],
    queues: Collection[str] | None,
    excluded: Collection[str] | None,
) -> dict[str, list[str]]:
    return {
        name: names
        for name, names in by_queue.items()
        if (not queues or name in queues) and name not in (excluded or ())
    }


def _actors_by_queue(broker: Broker) -> dict[str, list[str]]:
    by_queue: dict[str, list[str]] = {}
    for actor in broker.actors.values():
        by_queue.setdefault(actor.queue_name, []).append(actor.actor_name)
    return by_queue


def _listed(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:LISTED_AT_MOST])
    hidden = len(names) - LISTED_AT_MOST
    return f"{shown} and {hidden} more" if hidden > 0 else shown

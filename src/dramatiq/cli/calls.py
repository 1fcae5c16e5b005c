"""What actors take, and the command that sends one a first message."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    import inspect

    from ..actor import Actor
    from ..broker import Broker

__all__ = ["first_steps", "signature_of"]


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

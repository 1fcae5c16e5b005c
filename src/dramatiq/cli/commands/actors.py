"""`actors`: what can be sent, and how each is declared."""

from __future__ import annotations

import inspect
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls import signature_of
from .application import add_application_options, load_application
from .tables import add_json_option, print_json, print_table

if TYPE_CHECKING:
    import argparse

    from ...actor import Actor

__all__ = ["add_arguments", "describe_actor", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_application_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """List the actors."""
    broker = load_application(args)
    actors = [describe_actor(broker.actors[name]) for name in sorted(broker.actors)]
    if args.json:
        print_json(actors)
        return 0
    print_table(
        ["ACTOR", "QUEUE", "PRIORITY", "SIGNATURE", "OPTIONS", "DEFINED IN"],
        [
            [
                each["name"],
                each["queue"],
                each["priority"],
                each["signature"],
                " ".join(f"{name}={value}" for name, value in each["options"].items()) or None,
                each["defined_in"],
            ]
            for each in actors
        ],
        empty="No actor is declared. Name the modules that declare them: dramatiq actors app",
    )
    return 0


def describe_actor(actor: Actor[Any, Any]) -> dict[str, Any]:
    """Return what is known of an actor."""
    signature = signature_of(actor)
    return {
        "name": actor.actor_name,
        "queue": actor.queue_name,
        "priority": actor.priority,
        "signature": str(signature) if signature else None,
        "options": actor.options,
        "is_async": actor.coroutine_function is not None,
        "defined_in": _place_of(actor.fn),
    }


def _place_of(function: Any) -> str | None:
    """Return file and line of a function, relative to the current folder if it is below it."""
    function = getattr(type(function), "perform", function)
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return None
    path = Path(code.co_filename)
    with suppress(ValueError):
        path = path.relative_to(os.path.realpath(os.curdir))
    return f"{path}:{code.co_firstlineno}"

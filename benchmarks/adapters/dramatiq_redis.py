"""This library on its Redis broker, with its default middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dramatiq

from . import driver
from .dramatiq_on_redis import (
    ask,
    doze_many,
    fill,
    greet,
    nap_many,
    no_op,
    send,
    send_foreign,
    version,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ask",
    "commands",
    "doze_many",
    "fan_in",
    "fill",
    "greet",
    "nap_many",
    "send",
    "send_foreign",
    "send_many",
]
__all__ += ["version"]


def send_many(indices: Sequence[int]) -> None:
    """Enqueue many no-ops in one call."""
    no_op.send_many([(index,) for index in indices])


def fan_in(indices: Sequence[int], last: int) -> None:
    """Start a group of no-ops, and one more when all of them have run."""
    children = dramatiq.group(no_op.message(index) for index in indices)
    (children | no_op.message_with_options(args=(last,), pipe_ignore=True)).run()


def commands(processes: int, threads: int) -> list[list[str]]:
    """Return the command that starts the workers."""
    command = driver.dramatiq_command(__name__, processes, threads)
    return [command + driver.our_options()]

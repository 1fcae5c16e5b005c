"""This library on its RabbitMQ broker, with its default middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .dramatiq_on_rabbitmq import SETTINGS, command, fill, greet, nap_many, no_op, send, version

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["commands", "fill", "greet", "nap_many", "send", "send_many", "version"]


def send_many(indices: Sequence[int]) -> None:
    """Enqueue many no-ops in one call."""
    no_op.send_many([(index,) for index in indices])


def commands(processes: int, threads: int) -> list[list[str]]:
    """Return the command that starts the workers."""
    slots = ["--async-slots", str(SETTINGS["async_slots"])] if "async_slots" in SETTINGS else []
    return [command(__name__, processes, threads) + slots]

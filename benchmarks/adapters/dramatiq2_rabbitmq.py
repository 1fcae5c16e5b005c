"""The published Dramatiq 2 on RabbitMQ, with its default middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .dramatiq_on_rabbitmq import command, fill, greet, nap_many, send, version

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["commands", "fill", "greet", "nap_many", "send", "send_many", "version"]


def send_many(indices: Sequence[int]) -> None:
    """Enqueue many no-ops; it has no way but one by one."""
    for index in indices:
        send(index)


def commands(processes: int, threads: int) -> list[list[str]]:
    """Return the command that starts the workers."""
    return [command(__name__, processes, threads)]

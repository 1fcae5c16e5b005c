"""How the failure of a message is told in a workflow: as plain data, which any encoder carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..delivery import MessageProxy
    from ..message import Message

__all__ = ["describe", "error_of"]

#: Most characters of an error's text that are kept.
_MAX_TEXT = 2000


def error_of(
    message: Message[Any] | MessageProxy, exception: BaseException | None
) -> dict[str, Any]:
    """Return what is kept of a failure, and what stands for its value with the policy ``value``."""
    return {
        "type": "Rejected" if exception is None else type(exception).__name__,
        "message": "" if exception is None else str(exception)[:_MAX_TEXT],
        "actor": message.actor_name,
        "queue": message.queue_name,
        "message_id": message.message_id,
    }


def describe(error: dict[str, Any]) -> str:
    """Return an error as a sentence."""
    return (
        f"actor raised {error['type']}: {error['message']} (message {error['message_id']} of "
        f"actor {error['actor']!r}, which is dead in queue {error['queue']!r})"
    )

"""What the middleware `Pipelines` does for messages of workflows. On an event loop too: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..message import Message
from .nodes import Address
from .policies import OPTION
from .step import (
    cancelled_step,
    current,
    failed_step,
    no_longer_current,
    now_current,
    stand_in_step,
    step_of,
)

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy

__all__ = ["begin", "enter", "leave", "skip"]


class _Skipped(Exception):
    """Stands for the error of a message that was skipped."""


def enter(broker: Broker, message: MessageProxy, place: list[Any]) -> bool:
    """Take note that a message of a workflow is about to run; False if it is cancelled."""
    address = Address(*place)
    if broker.workflows.cancellations.include(address):
        message._step = cancelled_step(address)
        return False
    now_current(address)
    return True


def leave(
    broker: Broker,
    message: MessageProxy,
    place: list[Any],
    result: Any,
    exception: BaseException | None,
) -> None:
    """Take note of what a message of a workflow came to."""
    here = current()
    no_longer_current()
    if exception is not None or message.failed:
        return
    address = Address(*place)
    if broker.workflows.cancellations.include(address, only_parts=True):
        # It has failed by that; its result comes too late.
        message._step = cancelled_step(address)
        return
    added = [] if here is None else here.added
    if isinstance(result, Message):
        # It takes this one's place.
        with broker.follow_ups(message):
            successor = result.copy(options={OPTION: place})
            broker.enqueue(successor, delay=result.options.get("delay"))
        message._step = step_of(broker, address, None, added, has_successor=True)
        return
    is_piped = not broker.get_actor(message.actor_name).options.get("pipe_ignore")
    try:
        message._step = step_of(broker, address, result, added, is_piped=is_piped)
    except Exception:
        # Kept as an error of its settlement: the message must not be acknowledged as if it had
        # come to something.
        with broker.follow_ups(message):
            raise


def begin(broker: Broker, message: MessageProxy, result: Any) -> None:
    """Have what a message of no workflow returned go on in its name."""
    try:
        workflows = broker.workflows
    except RuntimeError as error:
        message.fail()
        message.stuff_exception(error)
        return
    with broker.follow_ups(message):
        message._step = stand_in_step(broker, workflows, message, result)


def skip(message: MessageProxy) -> None:
    """Have a message of a workflow count as failed that was skipped."""
    no_longer_current()
    if message._step is None:
        error = message._exception or _Skipped("the message was skipped")
        message._step = failed_step(message, error)

"""What a message that ends means for workflows: kept with the message until it is settled."""

from __future__ import annotations

import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import error_of
from .nodes import Address, root_of
from .policies import OPTION
from .rules import CANCELLED
from .store import Arrival, Status
from .values import failure_value, success_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..broker import Broker
    from ..delivery import MessageProxy
    from ..message import Message
    from .engine import Workflows
    from .nodes import Node

__all__ = [
    "Current",
    "Step",
    "cancelled_step",
    "current",
    "dead_arrival",
    "failed_step",
    "no_longer_current",
    "now_current",
    "stand_in_step",
    "step_of",
]


class Step:
    """What is to be done in workflows before a message may be settled."""

    __slots__ = ("arrival", "growths", "status")

    def __init__(
        self, arrival: Arrival | None = None, growths: tuple[Callable[[], None], ...] = ()
    ) -> None:
        #: What is recorded; none where a frame takes the message's place.
        self.arrival = arrival
        #: Done before that: what the message adds to its workflow.
        self.growths = growths
        #: What the arrival led to, once it is recorded.
        self.status: Status | None = None


def failed_step(message: MessageProxy, exception: BaseException | None = None) -> Step:
    """Return what the failure of a message of a workflow means."""
    address = Address(*message.options[OPTION])
    error = error_of(message, exception or message._exception)
    value = failure_value(address.failure, error)
    return Step(Arrival(address.flow, address.frame, address.child, value))


class _Died(Exception):
    """Stands for the error of a message that died without failing."""


def dead_arrival(message: Message[Any], reason: str) -> Arrival:
    """Return how a message of a workflow arrives that died without being settled."""
    address = Address(*message.options[OPTION])
    error = {**error_of(message, _Died(reason)), "type": "Died"}
    value = failure_value(address.failure, error)
    return Arrival(address.flow, address.frame, address.child, value)


def cancelled_step(address: Address) -> Step:
    """Return what it means that a message was not run, as its workflow is cancelled."""
    return Step(Arrival(address.flow, address.frame, address.child, CANCELLED))


def step_of(
    broker: Broker,
    address: Address,
    result: Any,
    added: Sequence[Node],
    *,
    is_piped: bool = True,
    has_successor: bool = False,
) -> Step | None:
    """Return what the success of a message of a workflow means.

    Args:
        broker: The broker.
        address: The message's place.
        result: What the actor returned.
        added: What it added to its group.
        is_piped: Whether the result goes on to the next step.
        has_successor: Whether another message has taken its place.

    Raises:
        TypeError: If the result cannot be encoded.
    """
    growths: tuple[Callable[[], None], ...] = ()
    if added:
        growths = (partial(broker.workflows.extend, address, added),)
    if has_successor:
        return Step(None, growths) if growths else None
    if getattr(result, "_is_composed", False):
        return Step(None, (*growths, partial(broker.workflows.expand, address, root_of(result))))
    value = success_value(result, is_piped=is_piped)
    return Step(Arrival(address.flow, address.frame, address.child, value), growths)


def stand_in_step(broker: Broker, workflows: Workflows, message: MessageProxy, result: Any) -> Step:
    """Return what it means that a message of no workflow returned a composition."""
    options = broker.get_actor(message.actor_name).options
    target = message.options.get("pipe_target")
    next_ignores = target is not None and target["options"].get("pipe_ignore")
    then = {
        "message": {**message.asdict(), "args": (), "kwargs": {}, "options": {}},
        "ttl": _result_ttl(broker, message),
        "target": target,
        "is_piped": not (next_ignores or options.get("pipe_ignore")),
        "group": _membership(message),
    }
    return Step(None, (partial(workflows.stand_in, message.message_id, root_of(result), then),))


def _membership(message: MessageProxy) -> dict[str, Any] | None:
    """Return which group with callbacks a message is a member of; None if it is of none."""
    barrier = message.options.get("group_completion_uuid")
    callbacks = message.options.get("group_completion_callbacks")
    if not barrier or not callbacks:
        return None
    member = message.options.get("group_completion_member", message.message_id)
    return {"barrier": barrier, "member": member, "callbacks": callbacks}


def _result_ttl(broker: Broker, message: MessageProxy) -> int | None:
    """Return how long the message's result is kept; None if it is not."""
    for middleware in broker.middleware:
        ttl_of = getattr(middleware, "ttl_of", None)
        if ttl_of is not None:
            ttl: int | None = ttl_of(broker, message)
            return ttl
    return None


class Current:
    """The place of the message that runs, and what it wants to add to its group."""

    __slots__ = ("added", "address")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.added: list[Node] = []


_current: contextvars.ContextVar[Current | None] = contextvars.ContextVar(
    "dramatiq_workflow", default=None
)


def current() -> Current | None:
    """Return the place of the message that runs in this context; None if it has none."""
    return _current.get()


def now_current(address: Address) -> None:
    """Take note that a message of a workflow is about to run in this context."""
    _current.set(Current(address))


def no_longer_current() -> None:
    """Take note that it has run."""
    _current.set(None)

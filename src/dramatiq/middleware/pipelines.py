"""Start the next step of a pipeline when a message succeeded, and tell workflows of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..logging import get_logger
from ..message import Message
from ..workflows.policies import OPTION
from .middleware import Middleware, SkipMessage

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy

__all__ = ["Pipelines"]


class Pipelines(Middleware):
    """Enqueues the message in option ``pipe_target``, with the result as its last argument.

    The result is left out if the next message's or this actor's option ``pipe_ignore`` is set.

    A message of a workflow tells it what it came to. An actor that returns a message, a group or
    a pipeline is replaced by it: what waits for its result waits for that one's.
    """

    is_loop_safe = True

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))

    @property
    def actor_options(self) -> set[str]:
        """The options ``pipe_ignore`` and ``pipe_target``."""
        return {"pipe_ignore", "pipe_target"}

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Skip a message whose workflow is cancelled."""
        place = message._message.options.get(OPTION)
        if place is not None:
            self._enter_workflow(broker, message, place)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Enqueue the next step, unless this one failed."""
        options = message.options
        place = options.get(OPTION)
        if place is not None:
            self._leave_workflow(broker, message, place, result, exception)
        if exception is not None or message.failed:
            return
        if getattr(result, "_is_composed", False):
            if place is None:
                self._begin_workflow(broker, message, result)
            return
        target = options.get("pipe_target")
        if target is None:
            return
        actor = broker.get_actor(message.actor_name)
        with broker.follow_ups(message):
            next_message: Message[Any] = Message(**target)
            ignores_result = next_message.options.get("pipe_ignore") or actor.options.get(
                "pipe_ignore"
            )
            if not ignores_result:
                next_message = next_message.copy(args=(*next_message.args, result))
            broker.enqueue(next_message, delay=next_message.options.get("delay"))

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Have a message of a workflow count as failed that was skipped."""
        if OPTION not in message.options:
            return
        from ..workflows.step import failed_step, no_longer_current

        no_longer_current()
        if message._step is None:
            error = message._exception or SkipMessage("The message was skipped.")
            message._step = failed_step(message, error)

    # -- workflows; what is imported here, only they need

    def _enter_workflow(self, broker: Broker, message: MessageProxy, place: list[Any]) -> None:
        from ..workflows.nodes import Address
        from ..workflows.step import cancelled_step, now_current

        address = Address(*place)
        if broker.workflows.cancellations.include(address):
            message._step = cancelled_step(address)
            raise SkipMessage(f"Workflow {address.flow} is cancelled")
        now_current(address)

    def _leave_workflow(
        self,
        broker: Broker,
        message: MessageProxy,
        place: list[Any],
        result: Any,
        exception: BaseException | None,
    ) -> None:
        from ..workflows.nodes import Address
        from ..workflows.step import cancelled_step, current, no_longer_current, step_of

        here = current()
        no_longer_current()
        if exception is not None or message.failed:
            return
        address: Address | None = Address(*place)
        if broker.workflows.cancellations.include(Address(*place), only_parts=True):
            # It has failed by that; its result comes too late.
            message._step = cancelled_step(Address(*place))
            return
        with broker.follow_ups(message):
            if isinstance(result, Message):
                # It takes this one's place.
                options = {OPTION: place}
                delay = result.options.get("delay")
                broker.enqueue(result.copy(options=options), delay=delay)
                result, address = None, None
            actor = broker.get_actor(message.actor_name)
            is_piped = not actor.options.get("pipe_ignore")
            added = [] if here is None else here.added
            message._step = step_of(broker, place, address, result, added, is_piped=is_piped)

    def _begin_workflow(self, broker: Broker, message: MessageProxy, result: Any) -> None:
        """Have what a plain message returned go on in its name, as a workflow."""
        from ..workflows.step import stand_in_step

        try:
            workflows = broker.workflows
        except RuntimeError as error:
            message.fail()
            message.stuff_exception(error)
            return
        with broker.follow_ups(message):
            message._step = stand_in_step(broker, workflows, message, result)

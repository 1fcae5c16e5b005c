"""Messages that run one after the other, each on the result of the one before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from ..broker import get_broker
from ..results.errors import ResultMissing
from ..workflows.policies import FAIL, check_policy, has_policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..broker import Broker
    from ..message import Message
    from ..workflows.nodes import Frame
    from .groups import group
    from .partial import Partial
    from .running import Running

__all__ = ["Composed", "pipeline"]

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

#: Most messages of a pipeline that each carry the next, as in 2.x. At somewhat less than 500 the
#: encoder gives up: each is nested two levels deeper.
LONGEST_FLAT = 400


class Composed:
    """What pipelines and groups are, as seen by one another."""

    def _attach(self, broker: Broker, flow: str, frame: str) -> None:
        """Take note of where this was started, and tell what is inside."""
        raise NotImplementedError


class pipeline(Composed, Generic[R]):  # noqa: N801 (a public name that reads like a function)
    """Messages to be run one after the other.

    The result of each is passed to the next as its last positional argument, unless an option
    ``pipe_ignore`` says otherwise. The messages are copies of those given. Running it enqueues
    the first, which carries all the others; the broker needs the `Pipelines` middleware.

    A pipeline with a group in it, with a policy for failures, with something to follow its end,
    or of more than 400 steps is a *workflow*: kept in a store of the broker's, where each
    group passes the list of its children's results on to the next step.

    Args:
        children: Messages, groups and pipelines, which are taken apart unless they say what is to
            follow their end or what becomes of their failure.
        broker: The broker to use; the process-wide one by default.
        failure: What becomes of the pipeline if a step fails that does not say so itself:
            ``"fail"``, it fails too; ``"ignore"``, it goes on with None; ``"value"``, it goes on
            with the error, as ``{"error": {"type": …, "message": …, …}}``.
        on_success: What to send after the last step, with its result as last argument.
        on_failure: What to send if it fails, with the error as last argument.

    Attributes:
        messages: The steps that are messages, in order; all of them unless it is a workflow.
        steps: All steps in order.
        broker: The broker in use.

    Raises:
        TypeError: If a child is something else.
        ValueError: If there is no such policy.
    """

    _is_composed = True

    def __init__(
        self,
        children: Iterable[Message[Any] | Partial[Any, Any] | pipeline[Any] | group[Any]],
        *,
        broker: Broker | None = None,
        failure: str = FAIL,
        on_success: Message[Any] | Partial[Any, Any] | None = None,
        on_failure: Message[Any] | Partial[Any, Any] | None = None,
    ) -> None:
        self.broker = broker or get_broker()
        self.failure = check_policy(failure)
        self.on_success = on_success
        self.on_failure = on_failure
        self._own_failure: str | None = None
        self._running: Running | None = None
        self.steps: list[Any] = list(_flatten(children))
        self.messages: list[Message[Any]] = [
            step for step in self.steps if not isinstance(step, Composed)
        ]
        if not self._is_workflow:
            for message, following in zip(self.messages, self.messages[1:], strict=False):
                # Holds the next message's options, not a copy: its own target shows in it.
                message.options["pipe_target"] = following.asdict()

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __or__(self: pipeline[T], other: Partial[T, S]) -> pipeline[S]: ...

    @overload
    def __or__(self, other: group[S]) -> pipeline[list[S]]: ...

    @overload
    def __or__(self, other: Message[S] | pipeline[S]) -> pipeline[S]: ...

    def __or__(self, other: Any) -> Any:
        """Return a pipeline that ends in ``other``; it uses the process-wide broker."""
        return type(self)([self, other])

    def __str__(self) -> str:
        return f"pipeline([{', '.join(str(step) for step in self.steps)}])"

    def if_failed(self, policy: str) -> pipeline[R]:
        """Say what becomes of what this pipeline is part of if it fails; return this pipeline.

        Args:
            policy: ``"fail"``, ``"ignore"`` or ``"value"``, see `pipeline`.
        """
        self._own_failure = check_policy(policy)
        return self

    @property
    def _is_plain(self) -> bool:
        """Whether nothing is said about its end."""
        return (
            self.failure == FAIL
            and self._own_failure is None
            and self.on_success is None
            and self.on_failure is None
        )

    @property
    def _is_workflow(self) -> bool:
        return (
            not self._is_plain
            or len(self.messages) != len(self.steps)
            or len(self.steps) > LONGEST_FLAT
            or any(map(has_policy, self.messages))
        )

    def _as_node(self, failure: str = FAIL) -> Frame:
        from ..workflows.nodes import Frame, node_of
        from .running import as_fields

        return Frame(
            True,
            [node_of(step, self.failure) for step in _unlinked(self)],
            self._own_failure or failure,
            as_fields(self.on_success),
            as_fields(self.on_failure),
        )

    def _attach(self, broker: Broker, flow: str, frame: str) -> None:
        """Take note of where this was started, and tell what is inside."""
        from .running import Running

        self._running = Running(broker, flow, frame, self)
        for index, step in enumerate(self.steps):
            if isinstance(step, Composed):
                step._attach(broker, flow, f"{frame}.{index}")

    def run(self, *, delay: int | None = None) -> pipeline[R]:
        """Enqueue the first message.

        Args:
            delay: Milliseconds before it may run. The option ``delay`` of the first message
                counts too; the longer one wins.

        Returns:
            This pipeline.

        Raises:
            RuntimeError: If it is a workflow and the broker has nowhere to keep it.
        """
        if self._is_workflow:
            from ..workflows.nodes import ROOT, root_of  # few pipelines are

            flow = self.broker.workflows.start(root_of(self), delay=delay)
            self._attach(self.broker, flow, ROOT)
            return self
        first = self.messages[0]
        longest = max(delay or 0, first.options.get("delay") or 0)
        self.broker.enqueue(first, delay=longest or None)
        return self

    def get_result(self, *, block: bool = False, timeout: int | None = None) -> R:
        """Return the result of the last step.

        Args:
            block: Whether to wait for it.
            timeout: Milliseconds to wait; 10 seconds by default.

        Raises:
            RuntimeError: If the broker has no result backend.
            ResultMissing: If there is none yet and ``block`` is False.
            ResultTimeout: If there is none in time.
            ResultFailure: If the last actor failed for good.
        """
        if self._running is not None:
            return cast("R", self._running.get(block=block, timeout=timeout))
        backend = self.broker.get_results_backend()
        result: R = self.messages[-1].get_result(backend=backend, block=block, timeout=timeout)
        return result

    def get_results(self, *, block: bool = False, timeout: int | None = None) -> Iterator[Any]:
        """Yield the result of each message in order.

        Args:
            block: Whether to wait for them.
            timeout: Milliseconds for all of them together; 10 seconds for each by default.

        Raises:
            RuntimeError: If the broker has no result backend.
            ResultMissing: If there is none yet and ``block`` is False.
            ResultTimeout: If there is none in time.
            ResultFailure: If an actor failed for good.
        """
        budgets = split_timeout(timeout)
        if self._running is not None:
            yield from self._running.get_children(len(self.steps), budgets, block=block)
            return
        backend = self.broker.get_results_backend()
        for message in self.messages:
            yield message.get_result(backend=backend, block=block, timeout=next(budgets))

    @property
    def completed(self) -> bool:
        """Whether the last message has a result.

        Raises:
            RuntimeError: If the broker has no result backend.
            ResultFailure: If its actor failed for good.
        """
        try:
            self.get_result()
        except ResultMissing:
            return False
        return True

    @property
    def completed_count(self) -> int:
        """How many messages have a result, from the first on without a gap.

        Raises:
            RuntimeError: If the broker has no result backend.
            ResultFailure: If an actor failed for good.
        """
        if self._running is not None:
            return self._running.completed_count(len(self.steps), in_order=True)
        count = 0
        try:
            for _ in self.get_results():
                count += 1
        except ResultMissing:
            pass
        return count


def split_timeout(timeout: int | None) -> Iterator[int | None]:
    """Yield how many milliseconds are left of ``timeout`` at each time of asking, never below 0.

    A timeout of None or 0 is no budget: it is given again and again.
    """
    deadline_s = time.monotonic() + (timeout or 0) / 1000
    while True:
        if timeout:
            yield max(0, int((deadline_s - time.monotonic()) * 1000))
        else:
            yield timeout


def _flatten(children: Iterable[Any]) -> Iterator[Any]:
    for child in children:
        if isinstance(child, pipeline) and child._is_plain:
            yield from _unlinked(child)
        elif isinstance(child, Composed):
            yield child
        elif hasattr(child, "asdict"):
            # New options for each: linking them must not change the caller's messages.
            yield child.copy(options={})
        else:
            raise TypeError(
                "A pipeline is made of messages, groups and pipelines, not of "
                f"{type(child).__name__}: {child!r}. Call actor.message(…) to make a message."
            )


def _unlinked(child: pipeline[Any]) -> Iterator[Any]:
    """Yield copies of the steps of a pipeline without what links them to one another."""
    last = len(child.steps) - 1
    for number, step in enumerate(child.steps):
        if isinstance(step, Composed):
            yield step
            continue
        message = step.copy(options={})
        if number < last and not child._is_workflow:
            del message.options["pipe_target"]
        yield message

"""Messages that run side by side, and what is to happen after all of them."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast, overload

from ..broker import get_broker
from ..message import generate_unique_id
from ..middleware.group_callbacks import GroupCallbacks
from ..rate_limits import Barrier
from ..results.errors import ResultMissing
from ..workflows.policies import FAIL, check_policy, has_policy
from .pipelines import Composed, pipeline, split_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..broker import Broker
    from ..message import Message
    from ..workflows.nodes import Frame
    from .partial import Partial
    from .running import Running

__all__ = ["group"]

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

Child: TypeAlias = "Message[Any] | Partial[Any, Any] | pipeline[Any] | group[Any]"


class group(Composed, Generic[R]):  # noqa: N801 (a public name that reads like a function)
    """Messages, pipelines and groups to be run side by side.

    Inside a pipeline it passes the list of its children's results on to the next step. There,
    with a policy for failures, with something to follow its end, or with callbacks and groups or
    the like inside it is a *workflow*, see `pipeline`.

    Args:
        children: Messages, pipelines and groups; taken once and not copied.
        broker: The broker to use; the process-wide one by default.
        failure: What becomes of the group if a child fails that does not say so itself:
            ``"fail"``, it fails too; ``"ignore"``, None stands for the child's result;
            ``"value"``, the error does, as ``{"error": {"type": …, "message": …, …}}``.
        on_success: What to send after all children, with the list of their results as last
            argument.
        on_failure: What to send if it fails, with the error as last argument.

    Attributes:
        children: The children in order.
        broker: The broker in use.
        completion_callbacks: The messages to be sent when all children succeeded, as dictionaries.

    Raises:
        TypeError: If a child is something else.
        ValueError: If there is no such policy.
    """

    _is_composed = True

    @overload
    def __init__(
        self: group[T],
        children: Iterable[Message[T]] | Iterable[Partial[Any, T]] | Iterable[pipeline[T]],
        *,
        broker: Broker | None = None,
        failure: str = FAIL,
        on_success: Message[Any] | Partial[Any, Any] | None = None,
        on_failure: Message[Any] | Partial[Any, Any] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: group[Any],
        children: Iterable[Child],
        *,
        broker: Broker | None = None,
        failure: str = FAIL,
        on_success: Message[Any] | Partial[Any, Any] | None = None,
        on_failure: Message[Any] | Partial[Any, Any] | None = None,
    ) -> None: ...

    def __init__(
        self,
        children: Iterable[Any],
        *,
        broker: Broker | None = None,
        failure: str = FAIL,
        on_success: Message[Any] | Partial[Any, Any] | None = None,
        on_failure: Message[Any] | Partial[Any, Any] | None = None,
    ) -> None:
        self.children: list[Child] = list(children)
        self.broker = broker or get_broker()
        self.failure = check_policy(failure)
        self.on_success = on_success
        self.on_failure = on_failure
        self._own_failure: str | None = None
        self._running: Running | None = None
        self.completion_callbacks: list[dict[str, Any]] = []
        for child in self.children:
            if not (isinstance(child, (group, pipeline)) or hasattr(child, "asdict")):
                raise TypeError(
                    "A group is made of messages, pipelines and groups, not of "
                    f"{type(child).__name__}: {child!r}. Call actor.message(…) to make a message."
                )

    def __len__(self) -> int:
        return len(self.children)

    def __str__(self) -> str:
        return f"group([{', '.join(str(child) for child in self.children)}])"

    @overload
    def __or__(self: group[T], other: Partial[list[T], S]) -> pipeline[S]: ...

    @overload
    def __or__(self, other: group[S]) -> pipeline[list[S]]: ...

    @overload
    def __or__(self, other: Message[S] | pipeline[S]) -> pipeline[S]: ...

    def __or__(self, other: Any) -> Any:
        """Return a pipeline in which ``other`` follows on the list of the children's results."""
        return pipeline([self, other])

    def if_failed(self, policy: str) -> group[R]:
        """Say what becomes of what this group is part of if it fails; return this group.

        Args:
            policy: ``"fail"``, ``"ignore"`` or ``"value"``, see `group`.
        """
        self._own_failure = check_policy(policy)
        return self

    @staticmethod
    def current() -> CurrentGroup:
        """Return the group that the message which runs here is part of, to add to it.

        Raises:
            RuntimeError: If no message of a workflow runs here.
        """
        return CurrentGroup()

    @property
    def _is_workflow(self) -> bool:
        return (
            self.failure != FAIL
            or self._own_failure is not None
            or self.on_success is not None
            or self.on_failure is not None
            or any(not isinstance(child, Composed) and has_policy(child) for child in self.children)
            or (bool(self.completion_callbacks) and any(map(_is_nested, self.children)))
        )

    def _as_node(self, failure: str = FAIL) -> Frame:
        from ..workflows.nodes import Frame, node_of
        from .running import as_fields

        return Frame(
            False,
            [node_of(child, self.failure) for child in self.children],
            self._own_failure or failure,
            as_fields(self.on_success),
            as_fields(self.on_failure),
            self.completion_callbacks,
        )

    def _attach(self, broker: Broker, flow: str, frame: str) -> None:
        """Take note of where this was started, and tell what is inside."""
        from .running import Running

        self._running = Running(broker, flow, frame, self)
        for index, child in enumerate(self.children):
            if isinstance(child, (group, pipeline)):
                child._attach(broker, flow, f"{frame}.{index}")

    def add_completion_callback(self, message: Message[Any]) -> None:
        """Have ``message`` sent when all children succeeded; may be called several times.

        A child that fails for good prevents it. The broker needs the `GroupCallbacks` middleware,
        and no child may be a group.
        """
        self.completion_callbacks.append(message.asdict())

    def run(self, *, delay: int | None = None) -> group[R]:
        """Enqueue the children.

        Args:
            delay: Milliseconds before each of them may run.

        Returns:
            This group.

        Raises:
            RuntimeError: If there are callbacks and the broker has no `GroupCallbacks` middleware,
                or if it is a workflow and the broker has nowhere to keep it.
            NotImplementedError: If there are callbacks, a child is a group, and the broker has
                nowhere to keep workflows.
        """
        if self._is_workflow and self._run_workflow(delay):
            return self
        children = self._with_callbacks() if self.completion_callbacks else self.children
        for is_composed, neighbours in groupby(children, key=_is_composed):
            if is_composed:
                for child in neighbours:
                    child.run(delay=delay)  # type: ignore[union-attr]  # that is what is grouped
            else:
                # Many at a time: a large group then costs a few writes, not one per message.
                self.broker.enqueue_many(neighbours, delay=delay)  # type: ignore[arg-type]  # as above
        return self

    def _run_workflow(self, delay: int | None) -> bool:
        from ..workflows.nodes import ROOT, root_of  # few groups are

        try:
            workflows = self.broker.workflows
        except RuntimeError:
            if not self.completion_callbacks:
                raise
            return False
        flow = workflows.start(root_of(self), delay=delay)
        self._attach(self.broker, flow, ROOT)
        return True

    def _with_callbacks(self) -> list[Child]:
        """Make a barrier for this run, and copies of the children that arrive at it."""
        middleware = self._find_middleware()
        barrier_key = generate_unique_id()
        barrier = Barrier(middleware.rate_limiter_backend, barrier_key, ttl=middleware.barrier_ttl)
        barrier.create(len(self.children))
        options = {
            "group_completion_uuid": barrier_key,
            "group_completion_callbacks": self.completion_callbacks,
        }
        members: set[str] = set()
        return [self._with_options(child, options, members) for child in self.children]

    def _find_middleware(self) -> GroupCallbacks:
        for middleware in self.broker.middleware:
            if isinstance(middleware, GroupCallbacks):
                return middleware
        raise RuntimeError(
            "Completion callbacks need the GroupCallbacks middleware. Add it to the broker: "
            "broker.add_middleware(GroupCallbacks(rate_limiter_backend))."
        )

    def _with_options(self, child: Child, options: dict[str, Any], members: set[str]) -> Child:
        if isinstance(child, group):
            raise NotImplementedError(
                "A group with completion callbacks cannot contain groups. "
                "Put the inner group's children into the outer one."
            )
        if isinstance(child, pipeline):
            *start, last = child.messages
            return pipeline([*start, _as_member(last, options, members)], broker=child.broker)
        return _as_member(cast("Message[Any]", child), options, members)

    def get_results(self, *, block: bool = False, timeout: int | None = None) -> Iterator[Any]:
        """Yield the result of each child in order: of a pipeline the last, of a group a list.

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
            yield from self._running.get_children(len(self.children), budgets, block=block)
            return
        for child in self.children:
            yield self._result_of(child, block=block, timeout=next(budgets))

    def _result_of(self, child: Child, *, block: bool = False, timeout: int | None = None) -> Any:
        if isinstance(child, group):
            return list(child.get_results(block=block, timeout=timeout))
        if isinstance(child, pipeline):
            return child.get_result(block=block, timeout=timeout)
        backend = self.broker.get_results_backend()
        return cast("Message[Any]", child).get_result(backend=backend, block=block, timeout=timeout)

    def wait(self, *, timeout: int | None = None) -> None:
        """Block until all children have a result.

        Args:
            timeout: Milliseconds for all of them together; 10 seconds for each by default.

        Raises:
            RuntimeError: If the broker has no result backend.
            ResultTimeout: If one has none in time.
            ResultFailure: If an actor failed for good.
        """
        deque(self.get_results(block=True, timeout=timeout), maxlen=0)

    @property
    def completed_count(self) -> int:
        """How many children have a result, a group among them when all of its own have.

        Raises:
            RuntimeError: If the broker has no result backend.
            ResultFailure: If an actor failed for good.
        """
        if self._running is not None:
            return self._running.completed_count(len(self.children), in_order=False)
        return sum(self._is_completed(child) for child in self.children)

    def _is_completed(self, child: Child) -> bool:
        try:
            self._result_of(child)
        except ResultMissing:
            return False
        return True

    @property
    def completed(self) -> bool:
        """Whether all children have a result; raises what `completed_count` raises."""
        return self.completed_count == len(self)


class CurrentGroup:
    """The innermost group that the message which runs here is part of.

    Raises:
        RuntimeError: If no message of a workflow runs here.
    """

    def __init__(self) -> None:
        from ..workflows.step import current

        here = current()
        if here is None:
            raise RuntimeError(
                "No message of a workflow runs here, so there is no group to add to. Call "
                "group.current() in the actor of a message that is part of a group in a workflow."
            )
        self._here = here

    def add(self, *children: Child) -> None:
        """Have more children run in the group, which waits for them too.

        They are added when the actor has returned, in one step with its result, and not at all
        if it fails.
        """
        from ..workflows.nodes import node_of

        self._here.added += [node_of(child) for child in children]


def _is_nested(child: Child) -> bool:
    """Tell whether a child cannot be counted by a barrier."""
    return isinstance(child, group) or (isinstance(child, pipeline) and child._is_workflow)


def _is_composed(child: Child) -> bool:
    return isinstance(child, (group, pipeline))


def _as_member(message: Message[Any], options: dict[str, Any], members: set[str]) -> Message[Any]:
    """Return a copy of ``message`` that arrives at the barrier named in ``options``.

    Members are told apart by message id. A message that is in the group more than once gets a
    name for each further place, or it would count once only and the barrier never clear.
    """
    if message.message_id in members:
        options = {**options, "group_completion_member": f"{message.message_id}@{len(members)}"}
    members.add(options.get("group_completion_member", message.message_id))
    return message.copy(options=options)

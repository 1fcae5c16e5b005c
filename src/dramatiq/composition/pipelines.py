"""Messages that run one after the other, each on the result of the one before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..broker import get_broker
from ..results.errors import ResultMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..broker import Broker
    from ..message import Message

__all__ = ["pipeline"]

R = TypeVar("R")
S = TypeVar("S")


class pipeline(Generic[R]):  # noqa: N801 (a public name that reads like a function)
    """Messages to be run one after the other.

    The result of each is passed to the next as its last positional argument, unless an option
    ``pipe_ignore`` says otherwise. The messages are copies of those given. Running it enqueues
    the first, which carries all the others; the broker needs the `Pipelines` middleware.

    Args:
        children: Messages and pipelines, which are taken apart.
        broker: The broker to use; the process-wide one by default.

    Attributes:
        messages: The messages in order.
        broker: The broker in use.

    Raises:
        TypeError: If a child is something else.
    """

    def __init__(
        self,
        children: Iterable[Message[Any] | pipeline[Any]],
        *,
        broker: Broker | None = None,
    ) -> None:
        self.broker = broker or get_broker()
        # New options for each: linking them must not change the caller's messages.
        self.messages: list[Message[Any]] = [
            message.copy(options={}) for message in _flatten(children)
        ]
        for message, following in zip(self.messages, self.messages[1:], strict=False):
            # Holds the next message's options, not a copy, so that its own target shows in it.
            message.options["pipe_target"] = following.asdict()

    def __len__(self) -> int:
        return len(self.messages)

    def __or__(self, other: Message[S] | pipeline[S]) -> pipeline[S]:
        """Return a pipeline that ends in ``other``; it uses the process-wide broker."""
        return cast("pipeline[S]", type(self)([self, other]))

    def __str__(self) -> str:
        return f"pipeline([{', '.join(str(message) for message in self.messages)}])"

    def run(self, *, delay: int | None = None) -> pipeline[R]:
        """Enqueue the first message.

        Args:
            delay: Milliseconds before it may run. The option ``delay`` of the first message
                counts too; the longer one wins.

        Returns:
            This pipeline.
        """
        first = self.messages[0]
        longest = max(delay or 0, first.options.get("delay") or 0)
        self.broker.enqueue(first, delay=longest or None)
        return self

    def get_result(self, *, block: bool = False, timeout: int | None = None) -> R:
        """Return the result of the last message.

        Args:
            block: Whether to wait for it.
            timeout: Milliseconds to wait; 10 seconds by default.

        Raises:
            RuntimeError: If the broker has no result backend.
            ResultMissing: If there is none yet and ``block`` is False.
            ResultTimeout: If there is none in time.
            ResultFailure: If the last actor failed for good.
        """
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
        backend = self.broker.get_results_backend()
        budgets = split_timeout(timeout)
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


def _flatten(children: Iterable[Message[Any] | pipeline[Any]]) -> Iterator[Message[Any]]:
    for child in children:
        if isinstance(child, pipeline):
            yield from child.messages
        elif hasattr(child, "asdict"):
            yield child
        else:
            raise TypeError(
                f"A pipeline is made of messages and pipelines, not of {type(child).__name__}: "
                f"{child!r}. Call actor.message(…) to make a message."
            )

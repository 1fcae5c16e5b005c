"""The contract of consumers: they hand out the messages of one queue and settle them.

One message at a time is the contract of 2.x, many at a time the native one; see `broker`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .delivery import MessageProxy, Outcome, Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Consumer"]


class Consumer:
    """Base class of consumers: iterators over the messages of one queue.

    Connection trouble surfaces as `BrokerConnectionError`, which workers wait out.
    """

    #: Whether `settle` and `fetch` belong to one thread, which settles many at a time. If False,
    #: as with every consumer of 2.x, `settle` may be called from any worker thread.
    is_owned: bool = False
    #: Whether it hands out messages. One that cares for a delay queue in its broker does not, and
    #: has work to do however busy the worker is.
    hands_out: bool = True
    #: Seconds a call may take to fail, beyond the time it was told to wait, when the server does
    #: not answer. A consumer that takes longer than that and half a minute is taken to hang, and
    #: its process is replaced.
    longest_call_s: float = 600.0

    def __iter__(self) -> Iterator[MessageProxy | None]:
        return self

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None when none came within the consumer's timeout."""
        raise NotImplementedError

    def ack(self, message: MessageProxy) -> None:
        """Remove a message for good. May be called from worker threads."""
        raise NotImplementedError

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters. May be called from worker threads."""
        raise NotImplementedError

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages that were not run back to their queue."""

    def close(self) -> None:
        """Release what this consumer holds."""

    def fetch(self, max_messages: int, timeout_ms: float) -> list[MessageProxy]:
        """Return up to ``max_messages`` messages; wait for the first at most about ``timeout_ms``.

        The default takes one, with the timeout the consumer was made with.
        """
        message = next(self)
        return [] if message is None else [message]

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Carry out settlements; tell for each whether the message was still this consumer's.

        The default does it one by one with `ack`, `nack` and `requeue`.
        """
        operations: dict[Outcome, Callable[[MessageProxy], None]] = {
            Outcome.ACK: self.ack,
            Outcome.NACK: self.nack,
            Outcome.REQUEUE: lambda message: self.requeue([message]),
        }
        for settlement in settlements:
            operations[settlement.outcome](settlement.message)
        return [True] * len(settlements)

    def keep(self, settlements: Sequence[Settlement]) -> None:
        """Store what other parts want to be stored with settlements, before that.

        It is done where others may look for it as soon as a workflow goes on.
        """
        for settlement in settlements:
            for store, operation in settlement.operations:
                store.write(operation)
            settlement.operations.clear()

    def exchange(
        self, settlements: Sequence[Settlement], max_messages: int, timeout_ms: float
    ) -> tuple[list[bool], list[MessageProxy]]:
        """Settle and fetch, in one round trip where the broker knows how.

        With ``max_messages`` 0 nothing is fetched. When there was something to settle, fetching
        does not wait.
        """
        settled = self.settle(settlements) if settlements else []
        if not max_messages:
            return settled, []
        return settled, self.fetch(max_messages, 0 if settlements else timeout_ms)

    def recover(self) -> bool:
        """Tell, after an error, whether this consumer can go on as if nothing had happened.

        True promises that what it handed out is still its own. The default says no: it is closed
        and replaced, and the broker delivers what was not settled again.
        """
        return False

    def wake(self) -> None:
        """Make a waiting `fetch` return soon. May be called from any thread."""

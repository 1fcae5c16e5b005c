"""The channel by which one consumer gets its messages.

The server pushes up to ``prefetch`` of them. They are buffered here until the consumer takes
them; what nobody takes for a while goes back to the queue, where others may be idle.

`take`, `settle`, `close` belong to the consumer's thread. What arrives is put down by the
session's; ``changed`` protects the buffer. Delivery tags mean something on this channel alone:
whoever settles holds the `Delivery`, and what came over another channel is never settled here.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import BrokerConnectionError, ConnectionClosed
from .failures import explain
from .session import reject

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable
    from concurrent.futures import Future

    from .session import Session

__all__ = ["Delivery", "Inlet"]

#: Seconds after which messages go back that were pushed to us and that nobody here has room for.
UNWANTED_S = 0.2


class Delivery:
    """One delivery of a message: good for one settlement, on the channel it came over."""

    __slots__ = ("body", "inlet", "properties", "redelivered", "tag")

    def __init__(self, inlet: Inlet, method: Any, properties: Any, body: bytes) -> None:
        self.inlet = inlet
        self.tag: int = method.delivery_tag
        self.redelivered: bool = method.redelivered
        self.properties = properties
        self.body = body

    @property
    def headers(self) -> dict[str, Any]:
        """AMQP's headers."""
        return self.properties.headers or {}


class Inlet:
    """A channel that consumes one queue.

    Args:
        session: The connection.
        queue_name: The queue.
        prefetch: How many messages may be unsettled.
        changed: Notified when something arrives, and when the channel is lost.
        gives_back: Whether what nobody takes goes back.
    """

    def __init__(
        self,
        session: Session,
        queue_name: str,
        prefetch: int,
        changed: threading.Condition,
        *,
        gives_back: bool,
    ) -> None:
        self.session = session
        self.queue_name = queue_name
        self.prefetch = prefetch
        #: When it was opened, by the monotonic clock.
        self.opened_at = time.monotonic()
        #: Why it is lost.
        self.error: BrokerConnectionError | None = None
        self._changed = changed
        self._gives_back = gives_back
        self._buffer: deque[Delivery] = deque()
        #: The tags that are not settled, in order. The session's thread alone changes it.
        self._unsettled: dict[int, None] = {}
        self._channel: Any = None
        self._consumer_tag = ""
        self._taken_at = 0.0
        self._is_watched = False
        #: Whether it has stopped consuming, because nobody took anything.
        self._is_resting = False

    # -- for the consumer's thread

    def open(self) -> Inlet:
        """Start consuming.

        Raises:
            BrokerConnectionError: If the server does not let us.
        """
        self.session.listeners.append(self._lose)
        try:
            self.session.call(self._open)
        except BaseException:
            self._leave()
            raise
        return self

    def take(self, count: int) -> list[Delivery]:
        """Return up to so many of the messages that have arrived."""
        with self._changed:
            self._taken_at = time.monotonic()
            taken = [self._buffer.popleft() for _ in range(min(count, len(self._buffer)))]
            is_resting, self._is_resting = self._is_resting, False
        if is_resting:
            self._submit(self._consume)
        return taken

    @property
    def has_news(self) -> bool:
        """Whether `take` has something to do. To be called with ``changed`` held."""
        return bool(self._buffer) or self._is_resting or self.error is not None

    @property
    def unsettled(self) -> int:
        """How many messages the server has handed to us and not got back. Any thread."""
        return len(self._unsettled)

    def settle(self, acked: Iterable[int], requeued: Iterable[int] = ()) -> None:
        """Acknowledge messages, and give others back. If the channel is lost, it does nothing.

        Args:
            acked: Tags.
            requeued: Tags.
        """
        self._submit(partial(self._settle, set(acked), list(requeued)))

    def close(self) -> None:
        """Settle what was submitted, give back the rest, and close the channel."""
        try:
            if self.error is None:
                self.session.call(self._close)
        finally:
            self._leave()

    def _submit(self, function: Any) -> None:
        if self.error is None:
            try:
                self.session.submit(function)
            except BrokerConnectionError as error:
                self._lose(error)

    def _leave(self) -> None:
        self._lose(ConnectionClosed("closed"))
        if self._lose in self.session.listeners:
            self.session.listeners.remove(self._lose)

    # -- for the session's thread

    def _open(self, promise: Future[Any]) -> None:
        self._opening = promise
        self._channel = self.session.connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Any) -> None:
        channel.add_on_close_callback(lambda _channel, reason: self._closed(reason))
        channel.add_on_cancel_callback(lambda _frame: self._cancelled_by_server())
        channel.basic_qos(prefetch_count=self.prefetch, callback=lambda _frame: self._consume())

    def _consume(self) -> None:
        if self.error is None:
            self._consumer_tag = self._channel.basic_consume(
                self.queue_name, self._on_message, callback=lambda _frame: self._consuming()
            )

    def _consuming(self) -> None:
        if not self._opening.done():
            self._opening.set_result(None)

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._unsettled[method.delivery_tag] = None
        if properties.headers and "x-delivery-count" in properties.headers:
            # A quorum queue, which gives messages up that are delivered too often.
            self._gives_back = False
        with self._changed:
            self._buffer.append(Delivery(self, method, properties, body))
            self._changed.notify_all()
        if self._gives_back and not self._is_watched:
            self._is_watched = True
            self.session.connection.ioloop.call_later(UNWANTED_S, self._check)

    def _check(self) -> None:
        """Stop consuming if nobody has taken what arrived."""
        self._is_watched = False
        if self.error is not None or not self._buffer:
            return
        wanted_for = self._taken_at + UNWANTED_S - time.monotonic()
        self._is_watched = True
        if wanted_for > 0:
            self.session.connection.ioloop.call_later(wanted_for, self._check)
            return
        asked_at = time.monotonic()
        self._channel.basic_cancel(
            self._consumer_tag, callback=lambda _frame: self._stopped(asked_at)
        )

    def _stopped(self, asked_at: float) -> None:
        self._is_watched = False
        with self._changed:
            if self._taken_at > asked_at:
                unwanted = []
                self._changed.notify_all()
            else:
                unwanted = [each.tag for each in self._buffer]
                self._buffer.clear()
                self._is_resting = True
                self._changed.notify_all()
        if unwanted:
            self._settle(set(), unwanted)
        else:
            self._is_resting = False
            self._consume()

    def _settle(self, acked: set[int], requeued: list[int]) -> None:
        if self.error is not None:
            return
        try:
            first = []
            for tag in self._unsettled:
                if tag not in acked:
                    break
                first.append(tag)
            if first:
                # Nothing below it is held by anybody, so it cannot settle what is not meant.
                self._channel.basic_ack(first[-1], multiple=True)
                acked = acked.difference(first)
            for tag in first:
                del self._unsettled[tag]
            for tag in acked:
                self._channel.basic_ack(tag)
                self._unsettled.pop(tag, None)
            for tag in requeued:
                self._channel.basic_nack(tag, requeue=True)
                self._unsettled.pop(tag, None)
        except Exception as error:
            self._lose(explain(error, self.session.where))

    def _close(self, promise: Future[Any]) -> None:
        self._opening = promise
        # What was submitted before has been written before.
        self._channel.close()

    def _closed(self, reason: BaseException) -> None:
        error = explain(reason, self.session.where)
        self._lose(error)
        if getattr(reason, "reply_code", None) == 0 and not self._opening.done():
            self._opening.set_result(None)
        reject(self._opening, error)

    def _cancelled_by_server(self) -> None:
        self._lose(ConnectionClosed(f"RabbitMQ ended the consumption of queue {self.queue_name!r}"))
        if self._channel.is_open:
            self._channel.close()

    def _lose(self, error: BrokerConnectionError) -> None:
        with self._changed:
            if self.error is None:
                self.error = error
            self._buffer.clear()
            self._changed.notify_all()
        self._unsettled.clear()

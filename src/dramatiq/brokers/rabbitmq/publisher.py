"""The channel on which a session publishes: in confirm mode, and many at a time.

The server confirms in batches and in any order; nobody waits for one before sending the next. A
message that has no queue to go to is returned, just before its confirmation.
"""

from __future__ import annotations

from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import pika  # type: ignore[import-untyped]

from ...errors import ConnectionClosed
from .failures import explain
from .session import reject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from .session import Session

__all__ = ["Outgoing", "Publisher", "publisher_of"]


class Outgoing(NamedTuple):
    """A message on its way to a queue."""

    queue_name: str
    body: bytes
    #: AMQP's message-id: the same however often it is published.
    delivery_id: str
    #: AMQP's, where higher comes first.
    priority: int | None = None
    headers: dict[str, Any] | None = None
    is_mandatory: bool = True

    def properties(self) -> pika.BasicProperties:
        """Return it as pika wants it."""
        return pika.BasicProperties(
            delivery_mode=2,
            message_id=self.delivery_id,
            priority=self.priority,
            headers=self.headers,
        )


class _Batch:
    """What one caller waits for."""

    def __init__(self, messages: Sequence[Outgoing], promise: Future[list[Outgoing]]) -> None:
        self.messages = messages
        self.promise = promise
        self.unconfirmed = len(messages)
        self.refused: list[Outgoing] = []


class Publisher:
    """Publishes on a session. All but `publish` belongs to the session's thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel: Any = None
        self._is_ready = False
        self._waiting: list[_Batch] = []
        self._number = 0
        self._unconfirmed: dict[int, tuple[_Batch, Outgoing]] = {}
        self._returned: set[str] = set()

    def publish(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Publish and wait until the server confirmed. Any thread.

        Returns:
            Those that the server refused: they have no queue, or it could not store them.

        Raises:
            BrokerConnectionError: If it is not known what became of them.
        """
        promise = self.start(messages)
        refused: list[Outgoing] = self._session.wait(promise)
        return refused

    def start(self, messages: Sequence[Outgoing]) -> Future[list[Outgoing]]:
        """Publish; the promise is settled when the server confirmed. Any thread."""
        promise = self._session.promise()
        self._session.submit(partial(self._begin, _Batch(messages, promise)))
        return promise

    def _begin(self, batch: _Batch) -> None:
        self._waiting.append(batch)
        try:
            if self._channel is None:
                self._channel = self._session.connection.channel(on_open_callback=self._opened)
            elif self._is_ready:
                self._send_waiting()
        except Exception as error:
            self._fail(error)

    def _opened(self, channel: Any) -> None:
        channel.add_on_close_callback(lambda _channel, reason: self._fail(reason))
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=self._confirming)

    def _confirming(self, _frame: Any) -> None:
        self._is_ready = True
        self._send_waiting()

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for index, batch in enumerate(waiting):
            try:
                for each in batch.messages:
                    self._number += 1
                    self._unconfirmed[self._number] = (batch, each)
                    self._channel.basic_publish(
                        "", each.queue_name, each.body, each.properties(), each.is_mandatory
                    )
            except Exception as error:
                self._waiting = waiting[index:]
                self._fail(error)
                return

    def _on_return(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        self._returned.add(properties.message_id)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        tags = [method.delivery_tag]
        if method.multiple:
            # In the order of their tags, so those that are meant come first.
            upto = method.delivery_tag
            tags = list(takewhile(lambda tag: tag <= upto, self._unconfirmed))
        was_stored = isinstance(method, pika.spec.Basic.Ack)
        for tag in tags:
            batch, message = self._unconfirmed.pop(tag)
            if not was_stored or message.delivery_id in self._returned:
                self._returned.discard(message.delivery_id)
                batch.refused.append(message)
            batch.unconfirmed -= 1
            if not batch.unconfirmed and not batch.promise.done():
                batch.promise.set_result(batch.refused)

    def _fail(self, error: BaseException) -> None:
        """Tell all who wait that the channel is gone; the next batch opens another."""
        batches = [batch for batch, _ in self._unconfirmed.values()] + self._waiting
        self._channel, self._is_ready = None, False
        self._number = 0
        self._waiting = []
        self._unconfirmed = {}
        self._returned = set()
        known = explain(error, self._session.where)
        for batch in dict.fromkeys(batches):
            reject(batch.promise, known)


def publisher_of(session: Session) -> Publisher:
    """Return the publisher of a session; there is one.

    Raises:
        ConnectionClosed: If the session is lost.
    """
    if session.error is not None:
        raise ConnectionClosed(session.error.message)
    publisher: Publisher | None = session.publisher
    if publisher is None:
        publisher = session.publisher = Publisher(session)
    return publisher

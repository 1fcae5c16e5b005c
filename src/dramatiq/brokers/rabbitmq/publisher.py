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
from .frames import Writer
from .session import reject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from .session import Session

__all__ = ["Outgoing", "Publisher", "Refused", "publisher_of"]


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


class Refused(NamedTuple):
    """What the server did not store."""

    messages: list[Outgoing]
    #: Names of the queues among theirs that do not exist.
    missing: set[str]


class _Batch:
    """What one caller waits for."""

    def __init__(self, messages: Sequence[Outgoing], promise: Future[Refused]) -> None:
        self.messages = messages
        self.promise = promise
        self.unconfirmed = len(messages)
        self.refused = Refused([], set())


class Publisher:
    """Publishes on a session. All but `publish` belongs to the session's thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._outlet: _Outlet | None = None

    def publish(self, messages: Sequence[Outgoing]) -> Refused:
        """Publish and wait until the server confirmed. Any thread.

        Returns:
            Those that the server refused: they have no queue, or it could not store them.

        Raises:
            BrokerConnectionError: If it is not known what became of them.
        """
        refused: Refused = self._session.wait(self.start(messages))
        return refused

    def start(self, messages: Sequence[Outgoing]) -> Future[Refused]:
        """Publish; the promise is settled when the server confirmed. Any thread."""
        promise = self._session.promise()
        self._session.submit(partial(self._begin, _Batch(messages, promise)))
        return promise

    def _begin(self, batch: _Batch) -> None:
        if self._outlet is None or self._outlet.is_spent:
            self._outlet = _Outlet(self._session)
        self._outlet.send(batch)


class _Outlet:
    """One channel in confirm mode. For the session's thread.

    After a refusal it is given up for a new one. When a node of a cluster dies, a channel that
    first publishes to a quorum queue before that has found another leader is refused for as long
    as it lives: seen with RabbitMQ 3.10.8.
    """

    def __init__(self, session: Session) -> None:
        self._where = session.where
        #: Whether another one has to be made for what comes next.
        self.is_spent = False
        self._is_ready = False
        self._waiting: list[_Batch] = []
        self._number = 0
        self._unconfirmed: dict[int, tuple[_Batch, Outgoing]] = {}
        self._returned: set[str] = set()
        self._session = session
        self._channel: Any = None
        self._writer: Any = None
        try:
            self._channel = session.connection.channel(on_open_callback=self._opened)
        except Exception as error:
            self._fail(error)

    def send(self, batch: _Batch) -> None:
        """Publish, as soon as the channel is open."""
        if self.is_spent and self._channel is None:
            reject(batch.promise, ConnectionClosed(f"RabbitMQ at {self._where}: no channel"))
            return
        self._waiting.append(batch)
        if self._is_ready:
            self._send_waiting()

    def _opened(self, channel: Any) -> None:
        channel.add_on_close_callback(lambda _channel, reason: self._fail(reason))
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=self._confirming)

    def _confirming(self, _frame: Any) -> None:
        self._writer = Writer(self._session.connection, self._channel)
        self._is_ready = True
        self._send_waiting()

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for index, batch in enumerate(waiting):
            try:
                for each in batch.messages:
                    self._number += 1
                    self._unconfirmed[self._number] = (batch, each)
                self._writer.publish(batch.messages)
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
        self.is_spent |= not was_stored
        for tag in tags:
            self._settle(*self._unconfirmed.pop(tag), was_stored=was_stored)
        if self.is_spent and not self._unconfirmed and self._channel.is_open:
            self._channel.close()

    def _settle(self, batch: _Batch, message: Outgoing, *, was_stored: bool) -> None:
        if message.delivery_id in self._returned:
            self._returned.discard(message.delivery_id)
            batch.refused.missing.add(message.queue_name)
            was_stored = False
        if not was_stored:
            batch.refused.messages.append(message)
        batch.unconfirmed -= 1
        if not batch.unconfirmed and not batch.promise.done():
            batch.promise.set_result(batch.refused)

    def _fail(self, error: BaseException) -> None:
        """Tell all who wait that the channel is gone."""
        self.is_spent = True
        batches = [batch for batch, _ in self._unconfirmed.values()] + self._waiting
        self._waiting = []
        self._unconfirmed = {}
        known = explain(error, self._where)
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

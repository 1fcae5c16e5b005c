"""Visits to a dead-letter queue: all of it is taken in hand, looked at, and given back.

AMQP shows messages by handing them out. Nobody else needs dead letters meanwhile but another
visitor, who waits. What is not taken away during a visit goes back to its place when it ends.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pika  # type: ignore[import-untyped]

from ...common import xq_name
from ...errors import ConnectionClosed
from ...inspection import MessageInfo, State
from .failures import RESOURCE_LOCKED, explain, explain_opening
from .identity import digest
from .letters import CRASHES, DIED_AT, REASON
from .parameters import as_list, describe, prepare
from .quiet import LOCK_SUFFIX, quieten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .broker import RabbitmqBroker

__all__ = ["Visit", "visit"]

#: Seconds without a further message after which the server is asked whether there are more.
SILENCE_S = 0.1
#: Seconds to wait for another visitor to leave or for a message that is there, and between two
#: tries.
PATIENCE_S, TRY_S = 30.0, 0.02


class Letter(NamedTuple):
    """A dead letter in hand."""

    tag: int
    info: MessageInfo
    priority: int | None


class Visit:
    """All dead letters of one queue, the oldest first. For one thread.

    Args:
        channel: A blocking channel of its own.
        queue_name: The queue, by its canonical name.
    """

    def __init__(self, channel: Any, queue_name: str) -> None:
        self._channel = channel
        self.letters = list(self._take_all(queue_name))

    def _take_all(self, queue_name: str) -> Iterator[Letter]:
        name = xq_name(queue_name)
        left = self._channel.queue_declare(name, passive=True).method.message_count
        if not left:
            return
        last = time.monotonic()
        for method, properties, body in self._channel.consume(name, inactivity_timeout=SILENCE_S):
            if method is None:
                if time.monotonic() - last > PATIENCE_S or not self._are_more_to_come(name):
                    return
                continue
            last = time.monotonic()
            info = _info(queue_name, properties, body)
            yield Letter(method.delivery_tag, info, properties.priority)
            left -= 1
            if not left:
                return

    def _are_more_to_come(self, name: str) -> bool:
        """Tell whether a silent queue is only slow, and not what others have emptied."""
        # What is no longer ready was sent before this answer, and has arrived with it.
        ready = self._channel.queue_declare(name, passive=True).method.message_count
        return bool(ready or self._channel.get_waiting_message_count())

    def drop(self, letters: list[Letter]) -> None:
        """Take letters away for good."""
        for letter in letters:
            self._channel.basic_ack(letter.tag)


@contextmanager
def visit(broker: RabbitmqBroker, queue_name: str) -> Iterator[Visit]:
    """Take all dead letters of a queue in hand, as the only one who does.

    Raises:
        BrokerConnectionError: If the server cannot be reached, or another visitor does not leave.
    """
    quieten()
    broker.topology.ensure(queue_name)
    targets = as_list(broker.parameters)
    where = describe(targets[0])
    try:
        connection = pika.BlockingConnection([prepare(each) for each in targets])
    except (pika.exceptions.AMQPError, OSError) as error:
        raise explain_opening([(where, error)]) from error
    try:
        channel = _lock(connection, xq_name(queue_name))
        yield Visit(channel, queue_name)
        # Whatever was written has been read when it answers; the rest goes back.
        channel.close()
    except (pika.exceptions.AMQPError, OSError) as error:
        raise explain(error, where) from error
    finally:
        if connection.is_open:
            connection.close()


def _lock(connection: Any, name: str) -> Any:
    """Return a channel; while its connection is open nobody else gets one for that queue.

    An exclusive queue stands for the lock: it goes with the connection that declared it.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        channel = connection.channel()
        try:
            channel.queue_declare(f"{name}{LOCK_SUFFIX}", exclusive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != RESOURCE_LOCKED or time.monotonic() > deadline:
                raise
            connection.sleep(TRY_S)
        except pika.exceptions.AMQPConnectionError as error:
            raise ConnectionClosed(f"cannot look at {name!r}: {error}") from error
        else:
            return channel


def _info(queue_name: str, properties: Any, body: bytes) -> MessageInfo:
    headers = properties.headers or {}
    died_at, reason, crashes = headers.get(DIED_AT), headers.get(REASON), headers.get(CRASHES)
    if not isinstance(died_at, int):
        died_at, reason = _death_of_2x(headers)
    return MessageInfo(
        key=digest(b"\x00".join([body, str(properties.message_id).encode(), b"%d" % died_at])),
        queue_name=queue_name,
        state=State.DEAD,
        payload=body,
        reason=str(reason),
        died_at=died_at,
        crashes=crashes if isinstance(crashes, int) else 0,
    )


def _death_of_2x(headers: dict[str, Any]) -> tuple[int, str]:
    """Return when and why the server moved a message that was rejected."""
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths else {}
    moment = death.get("time")
    if not isinstance(moment, datetime):
        return 0, "unknown"
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000), str(death.get("reason", "rejected"))

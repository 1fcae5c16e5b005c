"""Publishing until the server has confirmed: connects, declares, repeats."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ...common import compute_backoff
from ...errors import BrokerConnectionError, ConnectionClosed
from ...failpoints import hit
from .failures import RabbitmqBlocked
from .publisher import Refused, publisher_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .link import Link
    from .publisher import Outgoing
    from .topology import Topology

__all__ = ["MAX_ENQUEUE_ATTEMPTS", "Sender"]

#: How often storing a message is tried in all.
MAX_ENQUEUE_ATTEMPTS = 6
#: Seconds after which no third attempt is made: two may take that long if nobody answers.
GIVE_UP_S = 15.0
#: Milliseconds of the first and the longest wait between two attempts: 3 seconds in all at most.
FIRST_WAIT_MS, LONGEST_WAIT_MS = 50, 1000
#: Most messages, and most bytes of them, that are on their way to the server at a time.
WINDOW, WINDOW_BYTES = 2000, 8 << 20


class Sender:
    """May be used from any thread.

    Args:
        link: The connection to publish on.
        topology: Declares the queues.
    """

    def __init__(self, link: Link, topology: Topology) -> None:
        self._link = link
        self._topology = topology

    def send(self, messages: Sequence[Outgoing], *, confirms: bool = True) -> None:
        """Publish messages; return when the server has confirmed all.

        What is not known to have arrived is repeated under the same id.

        Args:
            messages: The messages.
            confirms: Whether to wait for that; if not, they may be lost with the connection.

        Raises:
            BrokerConnectionError: If the server cannot be reached, or refuses them.
        """
        remaining = list(messages)
        attempts = 0
        began = time.monotonic()
        never = threading.Event()
        while remaining:
            window = remaining[: _window(remaining)]
            try:
                refused = self._publish(window, confirms)
            except RabbitmqBlocked:
                raise
            except BrokerConnectionError as error:
                attempts += 1
                is_late = attempts > 1 and time.monotonic() - began >= GIVE_UP_S
                if attempts >= MAX_ENQUEUE_ATTEMPTS or is_late:
                    name = window[0].queue_name
                    text = f"Messages for queue {name!r} may not have been stored. {error.message}"
                    raise type(error)(text) from error
                self._wait(never, attempts)
                continue
            remaining = refused.messages + remaining[len(window) :]
            if refused.messages:
                attempts += 1
                if attempts >= MAX_ENQUEUE_ATTEMPTS:
                    raise ConnectionClosed(_why(refused))
                for name in refused.missing:
                    self._topology.forget(name)
                if attempts > 1 or not refused.missing:
                    self._wait(never, attempts)

    def _publish(self, window: list[Outgoing], confirms: bool) -> Refused:
        for name in dict.fromkeys(each.queue_name for each in window):
            self._topology.ensure_any(name)
        hit("rabbitmq.publish.before")
        publisher = publisher_of(self._link.session())
        if not confirms:
            publisher.start(window)
            return Refused([], set())
        refused = publisher.publish(window)
        hit("rabbitmq.publish.after")
        return refused

    def _wait(self, never: threading.Event, attempts: int) -> None:
        _, pause_ms = compute_backoff(
            attempts - 1, factor=FIRST_WAIT_MS, max_backoff=LONGEST_WAIT_MS
        )
        never.wait(pause_ms / 1000)


def _why(refused: Refused) -> str:
    name = refused.messages[0].queue_name
    if name in refused.missing:
        return f"RabbitMQ has no queue {name!r} any more. Is it deleted again and again?"
    return (
        f"RabbitMQ refuses messages for queue {name!r}. Is a limit on its length reached, or are "
        "most of the nodes down that hold it?"
    )


def _window(messages: Sequence[Outgoing]) -> int:
    """Return how many of the messages to send together: one at least."""
    size = 0
    for count, message in enumerate(messages[:WINDOW]):
        size += len(message.body)
        if size > WINDOW_BYTES:
            return max(1, count)
    return WINDOW

"""Storing messages so that each is there once, whatever becomes of connections meanwhile.

A sender that gets no answer does not know what the server has done. It repeats the same call,
and the server, which keeps the number of each sender's last call, does nothing if it has done it
before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...errors import BrokerConnectionError
from ...failpoints import hit
from ...redis.failures import RedisRefused, is_out_of_memory
from .layout import SENT_SPAN_S
from .scripts import load
from .settling import stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...delivery import Envelope
    from ...redis import Link, LinkPool
    from .layout import Layout

__all__ = ["Sender"]

#: Most messages stored by one call.
BATCH = 500
#: Most bytes stored by one call, so that it takes no longer than some milliseconds.
BATCH_BYTES = 4 * 1024 * 1024
#: Seconds to wait before each repetition: long enough for a failover client to find the new
#: master or a server to come back from a short restart, short enough for a web request.
PAUSES_S = (0.0, 0.1, 0.4)
#: Milliseconds to wait for replicas to confirm.
REPLICAS_TIMEOUT = 1000


class Sender:
    """Stores messages. May be used from any thread.

    Args:
        links: Connections.
        layout: The keys.
    """

    def __init__(self, links: LinkPool, layout: Layout) -> None:
        self._links = links
        self._layout = layout

    def send(self, envelopes: Sequence[Envelope], *, min_replicas: int = 0) -> None:
        """Store messages, 500 in one round trip.

        Args:
            envelopes: The messages.
            min_replicas: How many replicas must confirm them.

        Raises:
            BrokerConnectionError: If some could not be stored, or it is not known whether they
                were; those of earlier round trips are.
        """
        batch: list[Envelope] = []
        size = 0
        for envelope in envelopes:
            if batch and (len(batch) >= BATCH or size + len(envelope.payload) > BATCH_BYTES):
                self._send(batch, min_replicas)
                batch, size = [], 0
            batch.append(envelope)
            size += len(envelope.payload)
        if batch:
            self._send(batch, min_replicas)

    def _send(self, envelopes: Sequence[Envelope], min_replicas: int) -> None:
        keys, arguments = stored(envelopes, self._layout)
        keys.insert(0, self._layout.sent())
        with self._links.borrow() as link:
            link.sequence += 1
            for attempt, pause_s in enumerate((*PAUSES_S, None)):
                start = (link.name, link.sequence, int(attempt > 0), 2 * SENT_SPAN_S)
                hit("redis.enqueue.before")
                try:
                    link.run([(load("enqueue"), tuple(keys), (*start, *arguments))])
                    hit("redis.enqueue.after")
                    if min_replicas:
                        self._wait_for_replicas(link, min_replicas)
                except BrokerConnectionError as error:
                    # Waiting would not help against a full store.
                    if pause_s is None or is_out_of_memory(error):
                        raise
                    time.sleep(pause_s)
                else:
                    return

    def _wait_for_replicas(self, link: Link, wanted: int) -> None:
        """Wait for replicas to have what this connection has written."""
        [confirmed] = link.call([(b"WAIT", wanted, REPLICAS_TIMEOUT)])
        if not isinstance(confirmed, int) or confirmed < wanted:
            raise RedisRefused(
                f"Redis at {link.where}: only {confirmed} of {wanted} replicas confirmed in time "
                "that they have the message. It is stored, but a failover may lose it."
            )

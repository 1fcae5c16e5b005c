"""Where delayed messages wait: an ack set of a worker that nobody is, and an index by time.

The ack set is the truth, which workers of 2.x understand. The index can be lost or out of step:
what it does not know goes back to the delay queue's list and comes in again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...logging import get_logger
from .layout import PARKING
from .scripts import load

if TYPE_CHECKING:
    from ...redis import LinkPool
    from .layout import Layout

__all__ = ["Parking"]

#: Most messages moved by one call.
BATCH = 500
#: Seconds that the last of our workers spends on giving back. What is left then is found by our
#: next worker at once, and by workers of 2.x after their heartbeat timeout.
GIVE_BACK_S = 1.0


class Parking:
    """The parked messages of all delay queues. May be used from any thread.

    Args:
        links: Connections.
        layout: The keys.
    """

    def __init__(self, links: LinkPool, layout: Layout) -> None:
        self.logger = get_logger("dramatiq.brokers.redis", type(self))
        self._links = links
        self._layout = layout

    def give_back(self, queue_name: str) -> None:
        """Put the messages of a delay queue back on its list, where workers of 2.x look."""
        etas = self._layout.queue(queue_name).etas
        deadline = time.monotonic() + GIVE_BACK_S
        while time.monotonic() < deadline:
            with self._links.borrow() as link:
                [ids] = link.call([(b"ZRANGE", etas, 0, BATCH - 1)])
            if not ids:
                return
            self._unpark(queue_name, ids)

    def check(self, queue_name: str) -> None:
        """Put back on the list what is parked without being in the index."""
        parked = self._layout.acks(PARKING, queue_name)
        etas = self._layout.queue(queue_name).etas
        with self._links.borrow() as link:
            held, indexed = link.call([(b"SCARD", parked), (b"ZCARD", etas)])
            if held <= indexed:
                return
            cursor: Any = b"0"
            found = 0
            while True:
                [[cursor, ids]] = link.call([(b"SSCAN", parked, cursor, b"COUNT", BATCH)])
                scores = link.call([(b"ZSCORE", etas, each) for each in ids]) if ids else []
                strays = [each for each, at in zip(ids, scores, strict=True) if at is None]
                if strays:
                    self._unpark(queue_name, strays)
                    found += len(strays)
                if int(cursor) == 0:
                    break
        if found:
            self.logger.warning(
                "%d delayed messages of %r were not in the index; they come in again.",
                found,
                queue_name,
            )

    def _unpark(self, queue_name: str, ids: list[bytes]) -> None:
        queue = self._layout.queue(queue_name)
        parked = self._layout.acks(PARKING, queue_name)
        keys = (parked, queue.etas, queue.ids, queue.payloads)
        self._links.run([(load("unpark"), keys, tuple(ids))])

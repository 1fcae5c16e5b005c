"""The queues on the server, as 2.x declares them, and the parking queues beside them."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ...common import dq_name, q_name, xq_name
from ...errors import BrokerConnectionError
from ...logging import get_logger
from .failures import NOT_FOUND, PRECONDITION_FAILED, code_of, try_again

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from .link import Link

    Steps = Generator[Callable[..., Any], Any, Any]

__all__ = [
    "BUCKETS_MS",
    "CRASH_DELAYS_MS",
    "Topology",
    "bucket_for",
    "crash_name",
    "park_name",
    "waiting_names",
]

#: Milliseconds that messages stay in each of a queue's parking queues.
BUCKETS_MS = (
    *(1_000, 5_000, 15_000, 60_000, 300_000, 900_000),
    *(3_600_000, 21_600_000, 86_400_000),
)
#: Milliseconds for which a message waits after each crash it caused, but for the last.
CRASH_DELAYS_MS = (1_000, 10_000)
#: A queue from which the server moves what has been in it for so long.
_WAITING = re.compile(r"(?P<queue>.+)\.(?P<kind>park|crash)\.(?P<ms>\d+)")
#: Seconds for which a queue that was not there is not asked for again: each question about one
#: costs a channel.
MISSING_S = 1.0


def park_name(queue_name: str, bucket_ms: int) -> str:
    """Return the name of a queue's parking queue."""
    return f"{q_name(queue_name)}.park.{bucket_ms}"


def crash_name(queue_name: str, delay_ms: int) -> str:
    """Return the name of the queue in which messages wait that have brought down a process.

    The server itself moves them back: a worker that moved one could be killed by it before it
    has acknowledged the original, and there would be two.
    """
    return f"{q_name(queue_name)}.crash.{delay_ms}"


def waiting_names(queue_name: str) -> list[str]:
    """Return the names of all queues from which the server moves messages back to a queue."""
    parking = [park_name(queue_name, each) for each in BUCKETS_MS]
    return parking + [crash_name(queue_name, each) for each in dict.fromkeys(CRASH_DELAYS_MS)]


def bucket_for(remaining_ms: float) -> int:
    """Return how long to park a message that is due that late: never longer than that."""
    return max((each for each in BUCKETS_MS if each <= remaining_ms), default=BUCKETS_MS[0])


class Topology:
    """Declares, counts and empties queues. May be used from any thread.

    Args:
        link: A connection.
        dead_message_ttl: Milliseconds dead letters are kept.
        max_priority: AMQP's ``x-max-priority``; None for queues without priorities.
        pending: Canonical names of queues that are yet to be declared on the server.
    """

    def __init__(
        self, link: Link, dead_message_ttl: int, max_priority: int | None, pending: set[str]
    ) -> None:
        self.logger = get_logger("dramatiq.brokers.rabbitmq", type(self))
        self._link = link
        self._dead_message_ttl = dead_message_ttl
        self._max_priority = max_priority
        self._pending = pending
        self._declared: set[str] = set()
        self._warned: set[str] = set()
        #: Until when a queue counts as missing, by the monotonic clock.
        self._missing: dict[str, float] = {}

    # -- declaring

    def ensure(self, queue_name: str) -> None:
        """Declare a queue, its delay queue and its dead-letter queue, once.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        canonical = q_name(queue_name)
        if canonical not in self._declared:
            names = (canonical, dq_name(canonical), xq_name(canonical))
            self._declare({name: self._arguments(name) for name in names})
            self._declared.add(canonical)
        self._pending.discard(canonical)

    def ensure_any(self, name: str) -> None:
        """Declare a queue by its full name, be it one of the three or one to wait in."""
        waiting = _WAITING.fullmatch(name)
        if waiting is None:
            self.ensure(name)
        elif name not in self._declared:
            queue_name, delay_ms = waiting["queue"], int(waiting["ms"])
            target = dq_name(queue_name) if waiting["kind"] == "park" else queue_name
            arguments = {
                "x-message-ttl": delay_ms,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": target,
            }
            # Never with x-expires: that would delete a queue with all that is in it.
            self._declare({name: arguments})
            self._declared.add(name)
            self._missing.pop(name, None)

    def forget(self, name: str) -> None:
        """Have a queue declared again by whoever uses it next: it is not there any more."""
        canonical = q_name(name)
        self._declared -= {name, canonical}
        if _WAITING.fullmatch(name) is None:
            self._pending.add(canonical)

    def _arguments(self, name: str) -> dict[str, Any]:
        # Any difference from 2.x, and the server refuses the declaration of the one or the other.
        if name == xq_name(name):
            return {"x-message-ttl": self._dead_message_ttl}
        arguments: dict[str, Any] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": xq_name(name),
        }
        if self._max_priority is not None:
            arguments["x-max-priority"] = self._max_priority
        return arguments

    def _declare(self, queues: dict[str, dict[str, Any]]) -> None:
        def script(channel: Any) -> Steps:
            for name, arguments in queues.items():
                yield partial(channel.queue_declare, name, durable=True, arguments=arguments)

        try:
            self._converse(script)
        except BrokerConnectionError as error:
            if code_of(error) != PRECONDITION_FAILED:
                raise
            for name, arguments in queues.items():
                if len(queues) > 1:
                    self._declare({name: arguments})
                else:
                    self._use_as_it_is(name, error)

    def _use_as_it_is(self, name: str, error: BaseException) -> None:
        if name in self._warned:
            return
        self._warned.add(name)
        self.logger.warning(
            "Queue %r was declared with other arguments than ours; it is used as it is: %s",
            name,
            error,
        )

    # -- looking

    def count(self, names: Sequence[str]) -> list[int | None]:
        """Return how many messages are ready in each queue; None for one that does not exist."""
        now = time.monotonic()
        counts: dict[str, int | None] = {
            name: None for name in names if now < self._missing.get(name, 0)
        }
        while len(counts) < len(names):

            def script(channel: Any) -> Steps:
                for name in names:
                    if name not in counts:
                        counts[name] = None  # should the server close the channel
                        self._missing[name] = now + MISSING_S
                        answer = yield partial(channel.queue_declare, name, passive=True)
                        counts[name] = answer.method.message_count
                        del self._missing[name]

            self._forgive_missing(script)
        return [counts[name] for name in names]

    def count_queue(self, queue_name: str) -> tuple[int, int, int]:
        """Return how many messages of a queue are ready, delayed and dead."""
        canonical = q_name(queue_name)
        main = [canonical, dq_name(canonical), xq_name(canonical)]
        counts = self.count(main + waiting_names(canonical))
        ready, delayed, dead, *rest = [each or 0 for each in counts]
        return ready, delayed + sum(rest), dead

    def purge(self, names: Sequence[str]) -> int:
        """Drop what is ready in queues; one that does not exist has nothing."""
        purged = 0
        for name in names:

            def script(channel: Any, name: str = name) -> Steps:
                answer = yield partial(channel.queue_purge, name)
                return answer.method.message_count

            purged += self._forgive_missing(script) or 0
        return purged

    def _forgive_missing(self, script: Any) -> Any:
        try:
            return self._converse(script)
        except BrokerConnectionError as error:
            if code_of(error) != NOT_FOUND:
                raise
            return None

    def _converse(self, script: Any) -> Any:
        return try_again(lambda: self._link.session().converse(script))

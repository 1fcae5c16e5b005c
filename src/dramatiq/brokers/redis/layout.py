"""The names of all keys; `docs/redis.md` describes what they hold.

Those that 2.x knows are as it names them. The others have a ``#`` in them, which no queue name
can have; losing all of them loses no message.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import NamedTuple

from ...common import dq_name, q_name, xq_name

__all__ = ["PARKING", "PAYLOADS_SUFFIX", "Layout", "QueueKeys"]

#: Stands in `__heartbeats__` and in the names of ack sets for the worker that holds all delayed
#: messages: none, but every worker of ours keeps it alive. When they are all gone, workers of 2.x
#: take back what it holds like that of any dead worker.
PARKING = "00000000-0000-4000-8000-000000000000"
#: What the keys of all hashes of payloads end with.
PAYLOADS_SUFFIX = ".msgs"
#: The names that queues can have; those of ack sets begin otherwise.
QUEUE_NAME = re.compile(r"(?!__acks__\.)[a-zA-Z_][a-zA-Z0-9._-]*")
#: Seconds that share one key for what senders have done; it lives twice as long.
SENT_SPAN_S = 3600


class QueueKeys(NamedTuple):
    """The keys of one queue, or of one delay queue."""

    #: List of the ids that wait.
    ids: bytes
    #: Hash of the payloads of all that wait or are leased.
    payloads: bytes
    #: Sorted set of the ids of dead letters, by the time of their death.
    dead: bytes
    #: Hash of their payloads.
    dead_payloads: bytes
    #: Hash of the reasons why they are dead.
    dead_reasons: bytes
    #: Hash of how many processes each message has brought down.
    crashes: bytes
    #: Sorted set of the ids of delayed messages, by the time they are due.
    etas: bytes


class Layout:
    """The keys of one namespace.

    Args:
        namespace: Their prefix.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        #: Sorted set of workers by their last sign of life, in UNIX epoch milliseconds.
        self.heartbeats = self._key("__heartbeats__")
        #: Hash of our workers: where they run, as JSON.
        self.workers = self._key("#workers")
        #: Set of the canonical names of queues of which our workers take nothing.
        self.paused = self._key("#paused")
        #: List of what was done through the dashboard, as JSON, the newest first.
        self.audit = self._key("#audit")
        #: Taken by whoever looks for dead workers.
        self.sweep_lock = self._key("#sweep")
        #: Taken by whoever looks for leases that belong to nobody.
        self.orphans_lock = self._key("#orphans")
        self.queue = lru_cache(maxsize=None)(self._queue)

    def acks(self, worker: str, queue_name: str) -> bytes:
        """Return the key of the set of ids that a worker holds of a queue."""
        return self._key(f"__acks__.{worker}.{queue_name}")

    def taking(self, worker: str, queue_name: str) -> tuple[bytes, ...]:
        """Return the keys for the script ``fetch``."""
        queue = self.queue(queue_name)
        acks = self.acks(worker, queue_name)
        return (self.heartbeats, queue.ids, acks, queue.payloads, self.paused)

    def acks_of(self, worker: str) -> bytes:
        """Return what the keys of all sets of a worker start with."""
        return self._key(f"__acks__.{worker}.")

    def worker_and_queue(self, acks: bytes) -> tuple[str, str]:
        """Return the worker and the queue of a key made by `acks`."""
        worker, _, queue_name = acks[len(self.acks_of("")) - 1 :].decode().partition(".")
        return worker, queue_name

    def queue_of(self, payloads: bytes) -> str | None:
        """Return the canonical name of the queue whose hash of payloads a key is; None if none."""
        name = payloads[len(self._key("")) : -len(PAYLOADS_SUFFIX)].decode("utf-8", "replace")
        return q_name(name) if QUEUE_NAME.fullmatch(name) else None

    def sent(self) -> bytes:
        """Return the key of the hash of what each sender did last, for this hour."""
        return self._key(f"#sent:{int(time.time()) // SENT_SPAN_S}")

    def _queue(self, queue_name: str) -> QueueKeys:
        dead = xq_name(queue_name)
        return QueueKeys(
            ids=self._key(queue_name),
            payloads=self._key(f"{queue_name}{PAYLOADS_SUFFIX}"),
            dead=self._key(dead),
            dead_payloads=self._key(f"{dead}{PAYLOADS_SUFFIX}"),
            dead_reasons=self._key(f"{dead}#why"),
            crashes=self._key(f"{q_name(queue_name)}#crash"),
            etas=self._key(f"{dq_name(queue_name)}#eta"),
        )

    def _key(self, name: str) -> bytes:
        return f"{self.namespace}:{name}".encode()

"""This process as a worker: registered in the store, alive by its heartbeat.

Whoever is not registered can lease nothing. A worker that was taken for dead by others goes on
under a new name; what it held is theirs.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ...common import current_millis, dq_name, q_name
from ...failpoints import hit
from ...logging import get_logger
from .._processes import host, is_alive, started
from .._store import decode, delay_after_crash, poison_reason
from .layout import PARKING, Layout
from .scanning import flat, scan_keys
from .scripts import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...redis import LinkPool

__all__ = ["Membership", "Sibling"]

#: Most messages moved by one call, so that no call keeps others waiting for long.
BATCH = 500
#: Stands for "known to be dead" where a script asks for how long there was no heartbeat.
SURELY_DEAD = -1


class Sibling(NamedTuple):
    """A worker of ours that says it runs on this machine."""

    worker: str
    pid: int
    started: str

    @property
    def is_alive(self) -> bool:
        """Whether its process is there; one that is stopped is."""
        return is_alive(self.pid, self.started)


class Membership:
    """What a process registers, and what happens to those that died. Thread-safe.

    Args:
        links: Connections.
        layout: The keys.
    """

    def __init__(self, links: LinkPool, layout: Layout) -> None:
        self.logger = get_logger("dramatiq.brokers.redis", type(self))
        self._links = links
        self._layout = layout

    def join(self, worker: str, queue_names: Iterable[str], recorders: Iterable[str]) -> None:
        """Register a worker that consumes these queues; again when there are others.

        Args:
            worker: Its name.
            queue_names: The queues.
            recorders: The names of its flight recorders.
        """
        where = {
            "host": host(),
            "pid": os.getpid(),
            "started": started(os.getpid()),
            "queues": sorted(queue_names),
            "recorders": sorted(recorders),
        }
        keys = (self._layout.heartbeats, self._layout.workers)
        self._links.run([(load("join"), keys, (worker, json.dumps(where)))])
        hit("redis.join.after")

    def beat(self, worker: str, siblings: Iterable[Sibling]) -> tuple[bool, list[Sibling]]:
        """Tell that a worker is alive, and the others of this machine that are.

        A process whose interpreter is busy in native code for long cannot beat by itself.

        Returns:
            Whether it is registered, and the workers of this machine.
        """
        alive = [each.worker for each in siblings if each.worker != worker and each.is_alive]
        keys = (self._layout.heartbeats, self._layout.workers)
        [[is_registered, workers]] = self._links.run(
            [(load("beat"), keys, (worker, PARKING, *alive))]
        )
        return bool(is_registered), list(_siblings(workers))

    def siblings(self) -> list[Sibling]:
        """Return the workers of this machine."""
        with self._links.borrow() as link:
            [workers] = link.call([(b"HGETALL", self._layout.workers)])
        return list(_siblings(flat(workers)))

    def queues_and_recorders_of(self, worker: str) -> tuple[list[str], list[str]]:
        """Return what a worker of ours says it consumes, and its flight recorders."""
        with self._links.borrow() as link:
            [where] = link.call([(b"HGET", self._layout.workers, worker)])
        with suppress(ValueError, TypeError, KeyError):
            said = json.loads(where)
            return list(map(str, said["queues"])), list(map(str, said["recorders"]))
        return [], []

    def blame(
        self, worker: str, queue_names: Iterable[str], leases: Sequence[bytes], max_crashes: int
    ) -> list[bytes]:
        """Take back what a dead worker was running; what has brought down too many is dead.

        The others wait in the delay queue, where workers of 2.x find them too.

        Args:
            worker: Who died.
            queue_names: Where it may hold messages.
            leases: The ids of what it was running.
            max_crashes: How many are too many.

        Returns:
            What those hold that are dead now, also if somebody else has found that.
        """
        reason = poison_reason(max_crashes)
        dead: list[bytes] = []
        # What runs is never from a delay queue.
        for name in sorted(set(map(q_name, queue_names))) if leases else ():
            queue, delayed = self._layout.queue(name), self._layout.queue(dq_name(name))
            keys = (
                *(self._layout.acks(worker, name), queue.payloads, queue.crashes),
                *(delayed.ids, delayed.payloads, queue.ids),
                *(queue.dead, queue.dead_payloads, queue.dead_reasons),
            )
            later = self._payloads_for_later(name, leases)
            hit("redis.blame.before")
            arguments = (max_crashes, reason, *chain.from_iterable(later))
            [crashes] = self._links.run([(load("blame"), keys, arguments)])
            hit("redis.blame.after")
            for lease, count in zip(leases, crashes, strict=True):
                if count >= max_crashes:
                    self.logger.critical(
                        "Message %s of queue %r is dead: %d processes died while they ran it.",
                        lease.decode("utf-8", "replace"),
                        name,
                        count,
                    )
            with self._links.borrow() as link:
                [payloads] = link.call([(b"HMGET", queue.dead_payloads, *leases)])
            dead += [payload for payload in payloads if payload is not None]
        return dead

    def _payloads_for_later(
        self, queue_name: str, leases: Sequence[bytes]
    ) -> list[tuple[bytes, bytes]]:
        """Return each id with its payload for the delay queue; empty where that cannot be made.

        Only the worker that held it could change either of payload and count, and it is dead.
        """
        queue = self._layout.queue(queue_name)
        with self._links.borrow() as link:
            payloads, crashes = link.call(
                [(b"HMGET", queue.payloads, *leases), (b"HMGET", queue.crashes, *leases)]
            )
        later = []
        for rank, lease in enumerate(leases):
            delay = delay_after_crash(int(crashes[rank] or 0) + 1, rank, len(leases))
            later.append((lease, _for_later(lease, payloads[rank], delay)))
        return later

    def find_dead(
        self, own_timeout: int, foreign_timeout: int, *, but: str, turn: int = 0
    ) -> dict[str, list[str]]:
        """Return the workers without a heartbeat, each with the queues it holds messages of.

        Args:
            own_timeout: Milliseconds without heartbeat after which one of ours counts as dead.
            foreign_timeout: The same for one of 2.x.
            but: Who asks, and is alive.
            turn: Milliseconds for which one search does for all workers: none is found if another
                one has searched in that time. By default it does not matter.
        """
        keys = (self._layout.heartbeats, self._layout.workers, self._layout.sweep_lock)
        arguments = (own_timeout, foreign_timeout, but, turn)
        [dead] = self._links.run([(load("find_dead"), keys, arguments)])
        held: dict[str, list[str]] = {each.decode(): [] for each in dead}
        # Every process that only sends leaves a heartbeat behind in 2.x: one walk for all of them.
        for worker, queue_name in self.find_ack_sets() if held else ():
            if worker in held:
                held[worker].append(queue_name)
        return held

    def reclaim(
        self,
        worker: str,
        queue_names: Iterable[str],
        *,
        timeout: int = SURELY_DEAD,
        side: str = "LPUSH",
        holding: Iterable[str] = (),
    ) -> int:
        """Take back what a dead worker holds and strike it off.

        Args:
            worker: Who died.
            queue_names: Where it may hold messages.
            timeout: Milliseconds without heartbeat that make it dead.
            side: Where they go: ``LPUSH`` to the front of their queues, ``RPUSH`` to the end.
            holding: Other queues of which it may hold messages, which stay as they are.

        Returns:
            How many messages went back; 0 if it turns out to be alive.
        """
        names = sorted(set(queue_names))
        reclaimed = 0
        for name in names:
            moved = self._reclaim_queue(worker, name, timeout, side)
            if moved is None:
                return reclaimed
            reclaimed += moved
        hit("redis.reclaim.before_strike_off")
        self.strike_off(worker, sorted({*names, *holding}))
        return reclaimed

    def reclaim_if_unknown(self, worker: str, queue_name: str) -> int:
        """Take back what a worker that is not registered holds of a queue."""
        with self._links.borrow() as link:
            [beat] = link.call([(b"ZSCORE", self._layout.heartbeats, worker)])
        if beat is not None:
            return 0
        # Whoever registers from here on has another name.
        return self._reclaim_queue(worker, queue_name, SURELY_DEAD, "LPUSH") or 0

    def _reclaim_queue(self, worker: str, name: str, timeout: int, side: str) -> int | None:
        queue = self._layout.queue(name)
        acks = self._layout.acks(worker, name)
        keys = (self._layout.heartbeats, acks, queue.ids, queue.payloads)
        reclaimed: int = 0
        while True:
            [answer] = self._links.run([(load("reclaim"), keys, (worker, timeout, side, BATCH))])
            if answer is None:
                return None
            hit("redis.reclaim.after_move")
            moved, left = answer
            reclaimed += moved
            if not left:
                return reclaimed

    def strike_off(self, worker: str, queue_names: Sequence[str]) -> tuple[bool, int]:
        """Remove a worker unless it holds messages of these queues.

        Returns:
            Whether it was removed, and how many of our workers are left.
        """
        acks = (self._layout.acks(worker, name) for name in queue_names)
        keys = (self._layout.heartbeats, self._layout.workers, *acks)
        [[removed, left]] = self._links.run([(load("strike_off"), keys, (worker,))])
        return bool(removed), int(left)

    def find_ack_sets(self) -> list[tuple[str, str]]:
        """Return worker and queue of all ack sets.

        It walks through all keys of the database, some at a time.
        """
        prefix = self._layout.acks_of("")[:-1]
        with self._links.borrow() as link:
            found = scan_keys(link, prefix)
        return [self._layout.worker_and_queue(key) for key in sorted(found)]


def _for_later(lease: bytes, payload: bytes | None, delay: int) -> bytes:
    """Return the payload with which a message waits in its delay queue."""
    if payload is None:
        return b""
    try:
        message = decode(payload)
        # Under the same id: its crashes are counted under it.
        options = {
            "eta": current_millis() + delay,
            "redis_message_id": lease.decode(),
        }
        later = message.copy(queue_name=dq_name(message.queue_name), options=options)
        encoded: bytes = later.encode()
    except Exception:
        # Its worker could read it, and we cannot: it does not wait.
        return b""
    return encoded


def _siblings(workers: Sequence[bytes]) -> Iterable[Sibling]:
    """Yield those of this machine from the answer to HGETALL."""
    for worker, text in zip(workers[::2], workers[1::2], strict=True):
        with suppress(ValueError, TypeError, KeyError):
            where = json.loads(text)
            if where["host"] == host():
                yield Sibling(worker.decode(), int(where["pid"]), str(where["started"]))

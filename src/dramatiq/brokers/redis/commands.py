"""The commands of 2.x, one message at a time, for tools and tests that call them.

They are reachable as ``broker.do_<name>``. Each tells that the broker's worker is alive, and now
and then looks for dead ones before, but for those that settle. Workers of ours do not use them.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

from ...common import dq_name, q_name
from .layout import PARKING
from .scripts import load

if TYPE_CHECKING:
    from ...redis.link import Call
    from .broker import RedisBroker

__all__ = [
    "LUA_MAX_STACK_VARIABLE",
    "MAINTENANCE_COMMAND_BLACKLIST",
    "MAINTENANCE_SCALE",
    "Commands",
]

#: What `RedisBroker.maintenance_chance` is a part of.
MAINTENANCE_SCALE = 1_000_000
#: Commands that are never preceded by maintenance.
MAINTENANCE_COMMAND_BLACKLIST = {"ack", "nack"}
#: Environment variable that says how many values Lua's ``unpack`` takes in the server.
LUA_MAX_STACK_VARIABLE = "dramatiq_lua_max_stack"
#: How many it takes in a server as it is delivered. More are never asked for: a script that fails
#: half-way has taken ids off their list.
LUA_MAX_STACK = 7992


class Commands:
    """Runs them for a broker. May be used from any thread.

    Args:
        broker: The broker.
    """

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker

    def enqueue(self, queue_name: str, message_id: str | bytes, data: bytes) -> None:
        """Store a payload under an id and put the id at the end of the queue."""
        queue = self._broker.layout.queue(queue_name)
        with self._broker.links.borrow() as link:
            link.sequence += 1
            keys = (self._broker.layout.sent(), queue.ids, queue.payloads)
            arguments = (link.name, link.sequence, 0, 60, 1, message_id, data)
            calls = self._begin("enqueue", queue_name)
            link.run([*calls, (load("enqueue"), keys, arguments)])

    def fetch(self, queue_name: str, count: int) -> list[bytes | None]:
        """Lease up to so many messages; return their payloads, None for one that is gone."""
        broker = self._broker
        keys = broker.layout.taking(broker.broker_id, queue_name)
        stack = int(os.environ.get(LUA_MAX_STACK_VARIABLE) or LUA_MAX_STACK)
        count = min(count, stack // 2, LUA_MAX_STACK // 2)
        if count <= 0:
            return []
        taken = self._run("fetch", queue_name, keys, (broker.broker_id, count, queue_name))
        return list(taken[1]) if taken else []

    def ack(self, queue_name: str, message_id: str | bytes) -> None:
        """Remove a message; harmless for one that is not held."""
        queue, acks = self._keys(queue_name)
        self._run("ack", queue_name, (acks, queue.payloads, queue.crashes), (message_id,))

    def nack(self, queue_name: str, message_id: str | bytes) -> None:
        """Move a message to the dead letters; harmless for one that is not held."""
        queue, acks = self._keys(queue_name)
        keys = (
            *(acks, queue.payloads, queue.crashes),
            *(queue.dead, queue.dead_payloads, queue.dead_reasons),
        )
        self._run("nack", queue_name, keys, (message_id, "", ""))

    def requeue(self, queue_name: str, *message_ids: str | bytes) -> None:
        """Give messages back to the end of the queue."""
        queue, acks = self._keys(queue_name)
        self._run("requeue", queue_name, (acks, queue.ids, queue.payloads), ("RPUSH", *message_ids))

    def purge(self, queue_name: str) -> None:
        """Drop what waits in a queue, what this worker holds of it, and its dead letters."""
        queue, acks = self._keys(queue_name)
        names = [
            *(queue.ids, acks, queue.payloads, queue.dead, queue.dead_payloads),
            *(queue.dead_reasons, queue.crashes),
        ]
        if queue_name != q_name(queue_name):
            names += (queue.etas, self._broker.layout.acks(PARKING, queue_name))
        with self._broker.links.borrow() as link:
            link.run(self._begin("purge", queue_name))
            link.call([(b"DEL", *names)])

    def qsize(self, queue_name: str) -> int:
        """Return how many messages wait or are leased, delayed ones included.

        What this worker holds counts twice, as in 2.x.
        """
        commands = []
        for name in (dq_name(queue_name), q_name(queue_name)):
            queue, acks = self._keys(name)
            commands += [(b"HLEN", queue.payloads), (b"SCARD", acks)]
        with self._broker.links.borrow() as link:
            link.run(self._begin("qsize", queue_name))
            return sum(link.call(commands))

    def _keys(self, queue_name: str) -> tuple[Any, bytes]:
        layout = self._broker.layout
        return layout.queue(queue_name), layout.acks(self._broker.broker_id, queue_name)

    def _run(
        self,
        name: str,
        queue_name: str,
        keys: tuple[bytes, ...],
        arguments: tuple[object, ...],
    ) -> Any:
        calls = [*self._begin(name, queue_name), (load(name), keys, arguments)]
        return self._broker.links.run(calls)[-1]

    def _begin(self, name: str, queue_name: str) -> list[Call]:
        """Maintain by chance; return the call that comes before every command."""
        broker = self._broker
        chance = broker.maintenance_chance
        heartbeat = (load("heartbeat"), (broker.layout.heartbeats,), (broker.broker_id,))
        is_chosen = random.randint(1, MAINTENANCE_SCALE) <= chance  # noqa: S311
        if is_chosen and name not in MAINTENANCE_COMMAND_BLACKLIST:
            broker.links.run([heartbeat])
            self._maintain(queue_name)
        return [heartbeat]

    def _maintain(self, queue_name: str) -> None:
        """Take back what dead workers hold of one queue, and drop its old dead letters."""
        broker = self._broker
        timeout = broker.heartbeat_timeout
        for worker, held in broker.membership.find_dead(
            timeout, timeout, but=broker.broker_id
        ).items():
            broker.membership.reclaim(
                worker, [queue_name], timeout=timeout, side="RPUSH", holding=held
            )
        broker.expire_dead_letters(q_name(queue_name))

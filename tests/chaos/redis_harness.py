"""Sites whose store is a Redis server, and what must hold there in every state."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter

from dramatiq.brokers.redis.layout import PARKING, Layout
from tests.chaos.harness import DEADLINE_S, Site

IS_FULL = os.environ.get("DRAMATIQ_CHAOS") == "full"
SEED = int(os.environ.get("DRAMATIQ_CHAOS_SEED", "0")) or random.SystemRandom().randrange(2**32)

#: Reads all keys of a namespace at one moment; for tests alone: it stops the server meanwhile.
SNAPSHOT = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
    local kind = redis.call('TYPE', key).ok
    local value
    if kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
    elseif kind == 'set' then value = redis.call('SMEMBERS', key)
    elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1)
    elseif kind == 'hash' then value = redis.call('HKEYS', key)
    else value = {} end
    found[#found + 1] = {key, kind, value}
end
return found
"""

COUNTS = """
return {redis.call('LLEN', KEYS[1]), redis.call('HLEN', KEYS[2]), redis.call('HLEN', KEYS[3]),
        redis.call('ZCARD', KEYS[4])}
"""


class Snapshot:
    """All keys of one namespace, read at one moment.

    Args:
        client: A client of the server.
        layout: The namespace's keys.
        queue_names: The queues to look at.
    """

    def __init__(self, client, layout, queue_names):
        self.layout = layout
        self.queue_names = queue_names
        found = client.eval(SNAPSHOT, 0, layout.namespace)
        self.keys = {key: value for key, _, value in found}
        acks_of_all = layout.acks_of("")[:-1]
        self.acks = {
            layout.worker_and_queue(key): value
            for key, value in self.keys.items()
            if key.startswith(acks_of_all)
        }

    def get(self, key):
        return self.keys.get(key, [])

    def leased(self, queue_name):
        """Return the ids that workers hold of a queue, those that are parked among them."""
        return [each for (_, name), ids in self.acks.items() if name == queue_name for each in ids]

    def counts(self, queue_name):
        """Return how many messages of a queue are ready, delayed, leased and dead."""
        queue = self.layout.queue(queue_name)
        delayed = self.layout.queue(f"{queue_name}.DQ")
        return [
            len(self.get(queue.ids)),
            len(self.get(delayed.payloads)),
            len(self.get(queue.payloads)) - len(self.get(queue.ids)),
            len(self.get(queue.dead)),
        ]

    def find_broken(self):
        """Return what breaks an invariant, each with the ids or workers it is about."""
        broken = {}
        where = Counter()
        for queue_name in self.queue_names:
            queue = self.layout.queue(queue_name)
            for name in (queue_name, f"{queue_name}.DQ"):
                keys = self.layout.queue(name)
                there = [*self.get(keys.ids), *self.leased(name)]
                where.update(there)
                broken[f"{name}: a payload is there for exactly what waits or is leased"] = set(
                    there
                ) ^ set(self.get(keys.payloads))
            where.update(self.get(queue.dead))
            broken[f"{queue_name}: a payload is there for exactly the dead"] = set(
                self.get(queue.dead)
            ) ^ set(self.get(queue.dead_payloads))
            broken[f"{queue_name}: the dead have a reason"] = set(self.get(queue.dead)) - set(
                self.get(queue.dead_reasons)
            )
            parked = self.acks.get((PARKING, f"{queue_name}.DQ"), [])
            broken[f"{queue_name}: exactly the parked are in the index"] = set(parked) ^ set(
                self.get(queue.etas)
            )
        broken["a message is in one place"] = {each for each, count in where.items() if count > 1}
        owners = {worker.encode() for worker, _ in self.acks}
        broken["every owner is registered"] = owners - set(self.get(self.layout.heartbeats))
        return {name: those for name, those in broken.items() if those}


class RedisSite(Site):
    """A site on a Redis server.

    Args:
        directory: For the ledger and what programs print.
        server: The server; None if it has a `url` of its own.
        namespace: The prefix of its keys.
        url: Where its programs connect to: to the server by default.
        options: Arguments of their brokers.
    """

    def __init__(self, directory, server, namespace="chaos", url=None, **options):
        super().__init__(directory)
        self.database = url or server.url
        self.broker_options = {"namespace": namespace, **options}
        self.layout = Layout(namespace)
        self.client = server.client(socket_timeout=DEADLINE_S)
        self.queue_names = ["default"]

    def clean_up(self):
        super().clean_up()
        self.client.close()

    def snapshot(self):
        return Snapshot(self.client, self.layout, self.queue_names)

    def counts(self):
        """Return how many messages are ready, delayed, leased and dead."""
        found = []
        for name in self.queue_names:
            queue, delayed = self.layout.queue(name), self.layout.queue(f"{name}.DQ")
            keys = (queue.ids, delayed.payloads, queue.payloads, queue.dead)
            # A transaction would be refused while memory is full.
            found += self.client.eval(COUNTS, len(keys), *keys)
        ready, waiting, stored, dead = (sum(found[index::4]) for index in range(4))
        return [ready, waiting, stored - ready, dead]

    def check_store(self):
        """Check that every invariant holds."""
        broken = self.snapshot().find_broken()
        assert not broken, broken

    def workers_of(self, pid):
        """Return the names under which a process is registered."""
        found = self.client.hgetall(self.layout.workers)
        return [worker.decode() for worker, text in found.items() if json.loads(text)["pid"] == pid]

    def leased_to(self, pid):
        """Return how many messages the store says a process holds."""
        workers = self.workers_of(pid)
        return sum(
            self.client.scard(self.layout.acks(worker, name))
            for worker in workers
            for name in self.queue_names
        )

    def wait_for_work(self, after_ns, timeout_s=DEADLINE_S):
        """Wait until something starts after a moment; return how many seconds after it."""

        def starts():
            entries = self.ledger.entries()
            return [e.at_ns for e in entries if e.kind == "start" and e.at_ns > after_ns]

        self.wait_until(starts, "work goes on", timeout_s)
        return (min(starts()) - after_ns) / 1e9

    def lost(self):
        """Return what was accepted by the producers' account and has not ended."""
        return set(self.ledger.numbers("sent")) - set(self.ledger.numbers("end"))


def show(capsys, title, figures):
    """Print one row of figures with the seed."""
    with capsys.disabled():
        print(f"\n{title}, seed {SEED}: {figures}")


def now_ns():
    """Return the clock of the ledger."""
    return time.monotonic_ns()

"""The limit: a bare loop over the list and the hash where Dramatiq 2.x keeps its messages.

One script call drops the last hundred messages and leases the next. No threads, no hooks, no
retries, and nobody takes over what a dead process had leased.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from typing import TYPE_CHECKING

from . import driver, redis_wire
from .redis_wire import client, fill, greet
from .redis_wire import send as send_foreign
from .redis_wire import send_at_once as send

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["commands", "fill", "greet", "send", "send_foreign", "send_many", "version"]

#: Messages per round trip.
BATCH = 100
#: Seconds one wait for the next message lasts.
WAIT_S = 5

#: Keys: the waiting ids, the bodies, the ids leased here. Arguments: how many to lease, then the
#: ids that are done.
TAKE = """
if #ARGV > 1 then
    redis.call('HDEL', KEYS[2], unpack(ARGV, 2))
    redis.call('SREM', KEYS[3], unpack(ARGV, 2))
end
local ids = redis.call('LPOP', KEYS[1], ARGV[1])
if not ids then return {} end
redis.call('SADD', KEYS[3], unpack(ids))
return redis.call('HMGET', KEYS[2], unpack(ids))
"""

MARKS = driver.marks()
LEASED = f"dramatiq:__acks__.{os.getpid()}.default"

take = client.register_script(TAKE)
send_many = fill


def version() -> str:
    """Return the version of the client library."""
    return importlib.metadata.version("redis")


def commands(processes: int, threads: int) -> list[list[str]]:
    """Return the commands that start the workers; threads would only slow the loop down."""
    del threads
    return [[sys.executable, "-m", __name__]] * processes


def run(body: bytes) -> str:
    """Run one message and return its id."""
    message = json.loads(body)
    if message["actor_name"] == "hello":
        driver.greeting(MARKS)
    else:
        MARKS.mark(message["args"][0])
    return str(message["options"]["redis_message_id"])


def main() -> None:
    """Work for ever."""
    keys = [redis_wire.QUEUE, redis_wire.BODIES, LEASED]
    done: Sequence[str] = []
    while True:
        bodies = take(keys, [BATCH, *done])
        done = [run(body) for body in bodies]
        if not done:
            # The list moved onto itself: it wakes and changes nothing.
            client.blmove(redis_wire.QUEUE, redis_wire.QUEUE, WAIT_S, "LEFT", "LEFT")


if __name__ == "__main__":
    main()

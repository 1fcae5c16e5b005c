"""Messages as any program may write them to Redis: two commands, as Dramatiq documents them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import redis

from . import driver

if TYPE_CHECKING:
    from collections.abc import Sequence

QUEUE = "dramatiq:default"
BODIES = "dramatiq:default.msgs"
#: Messages per command when a queue is filled.
BATCH = 1_000
#: Seconds without an answer after which the server counts as gone.
TIMEOUT_S = 60

BODY = (
    '{{"queue_name":"default","actor_name":"{actor}","args":{args},"kwargs":{{}},'
    '"options":{{"redis_message_id":"{key}"}},"message_id":"{key}","message_timestamp":0}}'
)

# Said explicitly, for the default may be shorter than a worker's wait.
client = redis.Redis.from_url(driver.url(), socket_timeout=TIMEOUT_S)


def message(args: Sequence[int], actor: str = "no_op") -> tuple[str, str]:
    """Return the id and the body of a message."""
    key = str(uuid.uuid4())
    return key, BODY.format(actor=actor, args=[*args], key=key)


def send(index: int) -> None:
    """Enqueue one no-op, command by command."""
    key, body = message([index])
    client.hset(BODIES, key, body)
    client.rpush(QUEUE, key)


def send_at_once(index: int) -> None:
    """Enqueue one no-op in one round trip."""
    _push([message([index])])


def fill(indices: Sequence[int]) -> None:
    """Enqueue many no-ops."""
    for start in range(0, len(indices), BATCH):
        _push([message([index]) for index in indices[start : start + BATCH]])


def greet() -> None:
    """Enqueue one greeting."""
    _push([message([], "hello")])


def _push(messages: Sequence[tuple[str, str]]) -> None:
    pipeline = client.pipeline(transaction=False)
    pipeline.hset(BODIES, mapping=dict(messages))
    pipeline.rpush(QUEUE, *(key for key, _ in messages))
    pipeline.execute()

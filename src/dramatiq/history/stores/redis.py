"""The history in Redis, shared by the workers of many machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...redis import Script, Store, make_client
from ..records import FailureGroup
from ..store import (
    MINUTE_MS,
    MINUTES_KEPT,
    PRUNED_PER_ATTEMPT,
    HistoryStore,
    MinuteKey,
    failures_of,
    indexes_of,
    minutes_of,
)
from ._encoding import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..records import Attempt
    from ..store import Index

__all__ = ["RedisStore"]

#: Most attempts of one script call, which holds up everybody else for some milliseconds at most.
BATCH = 100

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_SCRIPTS = Path(__file__).parent / "redis_scripts"
_ADD = Script.load(_SCRIPTS, "add")
_NEWEST = Script.load(_SCRIPTS, "newest")
_FAILURES = Script.load(_SCRIPTS, "failures")
_MINUTES = Script.load(_SCRIPTS, "minutes")
_CLEAR = Script.load(_SCRIPTS, "clear")


class RedisStore(HistoryStore):
    """Keeps the history in Redis, in lists of positions and one hash of records.

    Args:
        client: A client of the ``redis`` package to use, for one server, a cluster or sentinels.
        url: Where the server is if there is no client: ``redis://``, ``rediss://`` or
            ``unix://``.
        namespace: What all keys begin with, in braces, so that a cluster keeps them together.
        parameters: Further arguments of ``redis.Redis``, where there is no client.

    Attributes:
        client: The client in use.
    """

    def __init__(
        self,
        *,
        client: Any = None,
        url: str | None = None,
        namespace: str = "dramatiq-history",
        **parameters: Any,
    ) -> None:
        self.client: Any = make_client(client=client, url=url, **parameters)
        self._server = Store(self.client)
        self._prefix = f"{{{namespace}}}:"

    def add(self, attempts: Sequence[Attempt], *, ttl: int, max_records: int) -> None:
        """Add attempts, a hundred in a step; see `HistoryStore.add`."""
        for start in range(0, len(attempts), BATCH):
            self._add(attempts[start : start + BATCH], ttl, max_records)

    def _add(self, attempts: Sequence[Attempt], ttl: int, max_records: int) -> None:
        arguments: list[object] = [
            *(max_records, current_millis() - ttl, len(attempts) * PRUNED_PER_ATTEMPT),
            *(MINUTES_KEPT * MINUTE_MS // 1_000, len(attempts)),
        ]
        for each in attempts:
            arguments += (_header(each), encode(each))
        counts = minutes_of(attempts)
        arguments.append(len(counts))
        for key, count in counts.items():
            arguments += (key.minute, _encode(key[1:]), count)
        failures = failures_of(attempts)
        arguments.append(len(failures))
        for group, those in failures.items():
            arguments += (_encode(group), len(those), those[0].ended_at, those[-1].ended_at)
            arguments.append(encode(those[-1]))
        latest = {each.actor_name: each.ended_at for each in attempts}
        arguments.append(len(latest))
        for name, ended_at in latest.items():
            arguments += (name, ended_at)
        self._run(_ADD, *arguments)

    def newest(self, index: Index | None, *, before: int | None, limit: int) -> list[Attempt]:
        """Return attempts; see `HistoryStore.newest`."""
        name = "all" if index is None else _name(index)
        found = self._run(_NEWEST, name, "" if before is None else before, limit)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [decode(record, int(position)) for position, record in pairs]

    def actors(self) -> list[str]:
        """Return the names of actors; see `HistoryStore.actors`."""
        names = self._server.call(b"ZRANGE", f"{self._prefix}actors".encode(), 0, -1)
        return sorted(name.decode() for name in names)

    def failures(self, *, limit: int = 100) -> list[FailureGroup]:
        """Return groups of failures; see `HistoryStore.failures`."""
        groups = []
        for field, count, first, last, sample in self._run(_FAILURES, limit):
            actor_name, exception = json.loads(field)
            groups.append(
                FailureGroup(
                    actor_name, exception, int(count), int(first), int(last), decode(sample)
                )
            )
        return groups

    def counts_since(self, minute: int) -> Iterable[tuple[MinuteKey, int]]:
        """Return counts per minute; see `HistoryStore.counts_since`."""
        last = current_millis() // MINUTE_MS + 1
        first = max(minute, last - MINUTES_KEPT - 1)
        return [
            (MinuteKey(found, *json.loads(field)), int(count))
            for found, counts in self._run(_MINUTES, first, last)
            for field, count in zip(counts[::2], counts[1::2], strict=True)
        ]

    def clear(self) -> None:
        """Forget everything."""
        last = current_millis() // MINUTE_MS + 1
        while self._run(_CLEAR, BATCH, last - MINUTES_KEPT - 1, last):
            pass

    def _run(self, script: Script, *arguments: object) -> Any:
        return self._server.run(script, [self._prefix], *arguments)


def _header(attempt: Attempt) -> str:
    """Return what the scripts need to know of an attempt."""
    return _encode([attempt.ended_at, *map(_name, indexes_of(attempt))])


def _name(index: Index) -> str:
    name, value = index
    return f"{name}:{value}"

"""Workflows in Redis: a hash for each, and two indexes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...redis import LinkPool, Script
from ..store import RUNNING_TTL, Status, WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...delivery import Envelope
    from ...redis.link import Call
    from ..store import Arrival, Change

__all__ = ["RedisStore"]

_FOLDER = Path(__file__).parent / "redis_scripts"
_ARRIVE = Script.load(_FOLDER, "arrive")
#: The text of the script that a broker puts behind its function ``store``.
CHANGE_TEXT = (_FOLDER / "change.lua").read_bytes()
_CHANGE = Script(CHANGE_TEXT)
#: Most arrivals recorded by one call, most fields read by one command.
BATCH = 500


class RedisStore(WorkflowStore):
    """Keeps workflows on a server.

    The keys are ``<namespace>:#flow:<id>``, ``<namespace>:#flows`` (sorted set of ids by the time
    they were made) and ``<namespace>:#flows:cancelled`` (sorted set of ids by the time the mark
    expires).

    Args:
        client: A client of the ``redis`` package.
        namespace: Prefix of all keys; in a cluster it needs a hash tag.
    """

    def __init__(self, client: Any, namespace: str, *, links: LinkPool | None = None) -> None:
        self._prefix = f"{namespace}:#flow:"
        self._index = f"{namespace}:#flows".encode()
        self._cancelled = f"{namespace}:#flows:cancelled".encode()
        self._links = links or LinkPool(client, self._index)

    def arrive(self, arrivals: Sequence[Arrival]) -> list[Status]:
        """Record arrivals, one call for those of one workflow."""
        calls, places = self.arriving(arrivals)
        return self.statuses(places, self._links.run(calls))

    def arriving(self, arrivals: Sequence[Arrival]) -> tuple[list[Call], list[list[int]]]:
        """Return the calls that record arrivals, and for each the places of its arrivals."""
        by_flow: defaultdict[str, list[int]] = defaultdict(list)
        for place, arrival in enumerate(arrivals):
            by_flow[arrival.flow].append(place)
        calls: list[Call] = []
        places: list[list[int]] = []
        for flow, those in by_flow.items():
            for start in range(0, len(those), BATCH):
                some = those[start : start + BATCH]
                arguments: list[object] = [RUNNING_TTL]
                for place in some:
                    each = arrivals[place]
                    arguments += (each.frame, each.child, each.value, int(each.is_leaf))
                calls.append((_ARRIVE, (self.key(flow),), tuple(arguments)))
                places.append(some)
        return calls, places

    def statuses(self, places: list[list[int]], answers: list[Any]) -> list[Status]:
        """Return the statuses in the order of the arrivals."""
        found = {
            place: Status(status)
            for some, answer in zip(places, answers, strict=True)
            for place, status in zip(some, answer, strict=True)
        }
        return [found[place] for place in sorted(found)]

    def change(self, flow: str, change: Change, envelopes: Sequence[Envelope] = ()) -> bool:
        """Make a change."""
        keys, arguments = self._changing(flow, change)
        return self._run_change(keys, arguments, envelopes)

    def _run_change(
        self, keys: list[bytes], arguments: list[object], envelopes: Sequence[Envelope]
    ) -> bool:
        assert not envelopes  # noqa: S101 (this store is not a broker's)
        return bool(self._links.run([(_CHANGE, tuple(keys), tuple(arguments))])[0])

    def _changing(self, flow: str, change: Change) -> tuple[list[bytes], list[object]]:
        arguments: list[object] = [change.ttl]
        for fields in (change.expected, change.values):
            arguments.append(len(fields))
            for name, value in fields.items():
                arguments += (name, int(value is not None), value or b"")
        arguments.append(len(change.increments))
        for name, number in change.increments.items():
            arguments += (name, number)
        return [self.key(flow)], arguments

    def read(self, flow: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the values of some fields."""
        starts = range(0, len(fields), BATCH)
        commands = [("HMGET", self.key(flow), *fields[start : start + BATCH]) for start in starts]
        return [value for values in self._call(*commands) for value in values]

    def add(self, flow: str, created_at: int) -> None:
        """List a workflow."""
        self._call(("ZADD", self._index, "NX", created_at, flow))

    def flows(self, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
        """Return workflows, the newest first; those that have expired are struck off."""
        start = int(cursor or 0)
        [names] = self._call(("ZREVRANGE", self._index, start, start + limit - 1))
        there = self._call(*(("EXISTS", self.key(name.decode())) for name in names))
        gone = [name for name, is_there in zip(names, there, strict=True) if not is_there]
        if gone:
            self._call(("ZREM", self._index, *gone))
        kept = [name.decode() for name, is_there in zip(names, there, strict=True) if is_there]
        return kept, str(start + len(kept)) if len(names) == limit else None

    def delete(self, flow: str) -> None:
        """Forget a workflow."""
        self._call(
            ("UNLINK", self.key(flow)),
            ("ZREM", self._index, flow),
            ("ZREM", self._cancelled, flow),
        )

    def cancelled(self) -> set[str]:
        """Return the workflows that are marked cancelled."""
        _, names = self._call(
            ("ZREMRANGEBYSCORE", self._cancelled, "-inf", current_millis()),
            ("ZRANGE", self._cancelled, 0, -1),
        )
        return {name.decode() for name in names}

    def mark_cancelled(self, flow: str, is_cancelled: bool) -> None:
        """Mark a workflow cancelled, or take that back."""
        if is_cancelled:
            self._call(("ZADD", self._cancelled, current_millis() + RUNNING_TTL, flow))
        else:
            self._call(("ZREM", self._cancelled, flow))

    def key(self, flow: str) -> bytes:
        """Return the key of a workflow."""
        return (self._prefix + flow).encode()

    def _call(self, *commands: tuple[object, ...]) -> list[Any]:
        if not commands:
            return []
        with self._links.borrow() as link:
            answers = link.call(list(commands))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

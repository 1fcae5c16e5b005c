"""What the inspections of all brokers share: which messages are meant, and walking to them.

A store is read in pages, each from where the one before ended, and changed in steps of as many.
Places are named by what does not move when others come or go, wherever the store allows it.
"""

from __future__ import annotations

import dataclasses
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..common import q_name
from ..encoder import JSONEncoder
from ..errors import DecodeError
from ..flight_recorder import look
from ..inspection import (
    BATCH,
    Inspection,
    MessageInfo,
    Page,
    QueueInfo,
    RunningInfo,
    Selection,
    State,
)
from ..message import get_encoder
from ._store import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

__all__ = ["Chunk", "Entry", "Matcher", "StoreInspection", "renew"]

#: The options of a message that has been tried or was delayed; without them it is as new.
SPENT_OPTIONS = ("retries", "traceback", "requeue_timestamp", "eta")
#: Any message.
ALL = Selection()
#: Names that every encoder which writes JSON writes as they are.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


class Entry(NamedTuple):
    """A message, and the place after it."""

    after: str
    info: MessageInfo


class Chunk(NamedTuple):
    """What a store holds from some place on, and where to go on; None at the end."""

    entries: list[Entry]
    after: str | None


class Matcher:
    """Tells whether a message is meant by a selection.

    Args:
        selection: The selection.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._error = None if selection.error is None else selection.error.casefold()
        self._error_class = selection.error_class
        self._names = [
            name for name in (selection.actor_name, selection.message_id) if name is not None
        ]
        self._keys = None if selection.keys is None else frozenset(selection.keys)
        # Decoding costs most. A payload of JSON that does not even contain a name is none of it.
        is_json = type(get_encoder()) is JSONEncoder
        self._needles = [
            name.encode() for name in self._names if is_json and _PLAIN.fullmatch(name)
        ]

    def __call__(self, info: MessageInfo) -> bool:
        """Tell it for one message."""
        return (
            (self._keys is None or info.key in self._keys)
            and self._is_in_time(info.died_at)
            and (self._error is None or self._error in (info.reason or "").casefold())
            and (self._error_class is None or self._error_class == info.error_class)
            and (not self._names or self._is_named(info))
        )

    def _is_in_time(self, died_at: int | None) -> bool:
        since, until = self._selection.since, self._selection.until
        if died_at is None:
            return True
        return (since is None or since <= died_at) and (until is None or died_at <= until)

    def _is_named(self, info: MessageInfo) -> bool:
        if not all(needle in info.payload for needle in self._needles):
            return False
        message = info.message
        wanted = self._selection
        return message is not None and (
            wanted.actor_name in {None, message.actor_name}
            and wanted.message_id in {None, message.message_id}
        )


class StoreInspection(Inspection):
    """Inspects a store that can be read in pages. Subclasses say how, in the methods below."""

    # -- what subclasses implement

    def _now(self) -> int:
        """Return the time by the clock that dead letters are stamped with, in milliseconds."""
        raise NotImplementedError

    def _queue_names(self) -> set[str]:
        """Return the canonical names of all queues that the store or this process knows."""
        raise NotImplementedError

    def _recent_queue_names(self) -> set[str]:
        """Return the same for those whose questions are bounded; it may be some seconds old."""
        return self._queue_names()

    def _infos(self, queue_names: Sequence[str], count_limit: int | None) -> list[QueueInfo]:
        """Return what there is to tell of queues, in their order; see `Inspection.queues`."""
        raise NotImplementedError

    def _read(
        self, state: State, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        """Return about so many messages of one state from a place on, the next or newest first.

        It may leave out dead letters that died before the time of the selection.
        """
        raise NotImplementedError

    def _read_dead(
        self, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        """Return about so many dead letters from a place on, the oldest first.

        It may leave out those that died before or after the time of the selection.
        """
        raise NotImplementedError

    def _look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        """Return those of some dead letters that are there."""
        raise NotImplementedError

    def _search(self, queue_name: str, matches: Matcher) -> Iterator[MessageInfo]:
        """Yield the messages of a queue that match, in any state, reading some at a time."""
        raise NotImplementedError

    def _count_dead(self, queue_name: str, since: int | None, until: int) -> int:
        """Return how many dead letters died from one moment to another."""
        raise NotImplementedError

    def _requeue(self, queue_name: str, letters: list[MessageInfo]) -> int:
        """Move those dead letters that are still there and can be decoded; see `renew`."""
        raise NotImplementedError

    def _delete(self, queue_name: str, letters: list[MessageInfo]) -> int:
        """Drop those dead letters that are still there."""
        raise NotImplementedError

    def _purge(self, queue_name: str, state: State) -> int:
        """Drop what a queue holds in a state now."""
        raise NotImplementedError

    def _key_of(self, lease: bytes) -> str:
        """Return the `MessageInfo.key` of what a worker runs, from what it wrote down."""
        return lease.decode("utf-8", "surrogateescape")

    def _recorders(self) -> list[tuple[str, str]]:
        """Return each registered worker with the name of a flight recorder of it."""
        raise self._unsupported("running")

    # -- looking

    def queues(self, *, count_limit: int | None = None) -> list[QueueInfo]:
        """Return all queues, by name."""
        names = self._queue_names() if count_limit is None else self._recent_queue_names()
        return self._infos(sorted(names), count_limit)

    def queue(self, queue_name: str, *, count_limit: int | None = None) -> QueueInfo:
        """Return one queue."""
        return self._infos([q_name(queue_name)], count_limit)[0]

    def messages(
        self,
        state: State,
        selection: Selection = ALL,
        *,
        limit: int = 100,
        cursor: str | None = None,
        look_at: int | None = None,
    ) -> Page:
        """Return messages of one state; see `Inspection.messages`."""
        matches = Matcher(selection)
        keys = selection.keys
        if state is State.DEAD and keys is not None and cursor is None and len(keys) <= limit:
            # Looked up rather than looked for.
            found = [info for _, letters in self._batches(selection, BATCH) for info in letters]
            found.reverse()
            found.sort(key=lambda info: info.died_at or 0, reverse=True)
            return Page(found, None)
        is_filtered = selection != Selection(queue_name=selection.queue_name)
        count = BATCH if is_filtered else max(1, min(BATCH, limit + 1))
        items: list[MessageInfo] = []
        last = seen = cursor
        walk = self._walk(state, selection, cursor, count, is_bounded=look_at is not None)
        for number, (place, info) in enumerate(walk):
            if look_at is not None and number >= look_at:
                return Page(items, seen)
            seen = place
            if not matches(info):
                continue
            if len(items) >= limit:
                return Page(items, last)
            items.append(info)
            last = place
        return Page(items, None)

    def _walk(
        self,
        state: State,
        selection: Selection,
        cursor: str | None,
        count: int,
        *,
        is_bounded: bool,
    ) -> Iterator[tuple[str, MessageInfo]]:
        """Yield the messages of all queues that are meant, with the place after each."""
        first, after = (None, None) if cursor is None else _parse(cursor)
        for name in self._names(selection, is_bounded=is_bounded):
            if first is not None and name < first:
                continue
            place = after if name == first else None
            while True:
                entries, place = self._read(state, name, selection, place, count)
                for entry in entries:
                    yield f"{len(name)}:{name}{entry.after}", entry.info
                if place is None:
                    break

    def _names(self, selection: Selection, *, is_bounded: bool = False) -> list[str]:
        if selection.queue_name is not None:
            return [q_name(selection.queue_name)]
        if selection.keys is not None:
            raise ValueError("Messages are named by key within their queue: give queue_name too.")
        return sorted(self._recent_queue_names() if is_bounded else self._queue_names())

    def find(self, message_id: str) -> list[MessageInfo]:
        """Return what the store holds under a message id."""
        matches = Matcher(Selection(message_id=message_id))
        return [
            info for name in sorted(self._queue_names()) for info in self._search(name, matches)
        ]

    def get(self, queue_name: str, key: str) -> MessageInfo | None:
        """Return one message; see `Inspection.get`."""
        return next(iter(self._look_up(q_name(queue_name), [key])), None)

    def running(self) -> list[RunningInfo]:
        """Return what is running now, as far as the flight recorders of this machine tell."""
        now = self._now()
        return [
            RunningInfo(
                worker_id,
                each.place,
                each.actor_name,
                each.queue_name,
                self._key_of(each.lease) if each.lease else None,
                now - int((time.monotonic() - each.started_at) * 1000),
            )
            for worker_id, name in self._recorders()
            for each in look(name).running
        ]

    # -- acting on dead letters

    def count_dead(self, selection: Selection, *, limit: int | None = None) -> int:
        """Return how many dead letters match."""
        selection = self._begin(selection)
        times = Selection(selection.queue_name, since=selection.since, until=selection.until)
        if selection == times and selection.until is not None:
            return sum(
                self._count_dead(name, selection.since, selection.until)
                for name in self._names(selection)
            )
        count = 0
        for _, letters in self._batches(selection, BATCH):
            count += len(letters)
            if limit is not None and count >= limit:
                break
        return count

    def requeue(
        self,
        selection: Selection,
        *,
        limit: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> int:
        """Put dead letters back at the end of their queues; see `Inspection.requeue`."""
        return self._act(self._requeue, selection, limit, on_progress)

    def delete_dead(
        self,
        selection: Selection,
        *,
        limit: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> int:
        """Drop dead letters for good."""
        return self._act(self._delete, selection, limit, on_progress)

    def _begin(self, selection: Selection) -> Selection:
        """Leave what dies from now on alone."""
        if selection.until is not None:
            return selection
        return dataclasses.replace(selection, until=self._now())

    def _act(
        self,
        step: Callable[[str, list[MessageInfo]], int],
        selection: Selection,
        limit: int | None,
        on_progress: Callable[[int], None] | None,
    ) -> int:
        moved = 0
        if limit is not None and limit <= 0:
            return moved
        size = BATCH if limit is None else min(BATCH, limit)
        for name, letters in self._batches(self._begin(selection), size):
            moved += step(name, letters if limit is None else letters[: limit - moved])
            if on_progress is not None:
                on_progress(moved)
            if limit is not None and moved >= limit:
                break
        return moved

    def _batches(self, selection: Selection, size: int) -> Iterator[tuple[str, list[MessageInfo]]]:
        """Yield the dead letters that match, a queue's oldest first and at most so many at a time.

        They may be moved away between two batches.
        """
        matches = Matcher(selection)
        for name in self._names(selection):
            batch: list[MessageInfo] = []
            for chunk in self._dead(name, selection):
                batch += filter(matches, chunk)
                while len(batch) >= size:
                    yield name, batch[:size]
                    del batch[:size]
            if batch:
                yield name, batch

    def _dead(self, queue_name: str, selection: Selection) -> Iterator[list[MessageInfo]]:
        if selection.keys is not None:
            keys = list(dict.fromkeys(selection.keys))
            for start in range(0, len(keys), BATCH):
                yield self._look_up(queue_name, keys[start : start + BATCH])
            return
        after: str | None = None
        while True:
            entries, after = self._read_dead(queue_name, selection, after, BATCH)
            yield [entry.info for entry in entries]
            if after is None:
                return

    # -- dropping

    def purge(self, queue_name: str, states: Collection[State]) -> int:
        """Drop all messages of a queue that are in one of some states."""
        if State.LEASED in states:
            raise ValueError(
                f"Messages of queue {queue_name!r} that workers hold cannot be dropped. Stop the "
                "workers; then they are ready again."
            )
        return sum(self._purge(q_name(queue_name), state) for state in State if state in states)


def renew(info: MessageInfo, **options: Any) -> bytes | None:
    """Return the payload with which a dead letter starts over; None if it cannot be decoded."""
    try:
        message = decode(info.payload)
    except DecodeError:
        return None
    kept = {name: value for name, value in message.options.items() if name not in SPENT_OPTIONS}
    return message._replace(queue_name=info.queue_name, options={**kept, **options}).encode()


def _parse(cursor: str) -> tuple[str, str]:
    """Return the queue and the place in it that a cursor names."""
    length, _, rest = cursor.partition(":")
    if not length.isdecimal() or len(rest) <= int(length):
        raise ValueError(f"{cursor!r} is no cursor. Give that of the page before, or None.")
    return rest[: int(length)], rest[int(length) :]

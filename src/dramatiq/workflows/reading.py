"""Reads frames and values of workflows. Changes nothing."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

from .nodes import ROOT, Head, decode, parent_of
from .rules import FAILED, FRAME, RUNNING, SETTLED, UNPIPED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .store import WorkflowStore

__all__ = ["Chunk", "Input", "Reader", "State", "is_settled"]

#: Most values read at a time.
BATCH = 1000


def is_settled(raw: bytes | None) -> bool:
    """Tell whether a child's value lets its frame go on."""
    return bool(raw) and raw is not None and raw[:1] in SETTLED


class State(enum.Enum):
    """How far a workflow has come, or a part of it."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Chunk(NamedTuple):
    """Some children of a frame: the index of the first, policies and messages (None: a frame)."""

    first: int
    specs: list[tuple[str, dict[str, Any] | None]]


class Reader:
    """Reads from a store.

    Args:
        store: The store.
    """

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store

    def fields(self, flow: str, *names: str) -> list[bytes | None]:
        """Return the values of fields."""
        return self._store.read(flow, names)

    def head(self, flow: str, frame: str) -> Head | None:
        """Return what is known of a frame; None if it is not there."""
        [data] = self.fields(flow, f"{frame}:head")
        return None if data is None else Head.read(data)

    def heads(self, flow: str, frame: str, count: int) -> list[Head | None]:
        """Return what is known of the first children; None for those that are messages."""
        found = self.fields(flow, *(f"{frame}.{index}:head" for index in range(count)))
        return [None if data is None else Head.read(data) for data in found]

    def chunk(self, flow: str, frame: str, number: int) -> Chunk:
        """Return some children."""
        [data] = self.fields(flow, f"{frame}@{number}")
        return Chunk(*decode(data)) if data is not None else Chunk(0, [])

    def chunks(self, flow: str, frame: str) -> Iterator[Chunk]:
        """Yield all children."""
        [count] = self.fields(flow, f"{frame}:chunks")
        for number in range(int(count or 0)):
            yield self.chunk(flow, frame, number)

    def raw(self, flow: str, frame: str, first: int, count: int) -> list[bytes | None]:
        """Return what became of some children, as it is stored."""
        return self.fields(flow, *(f"{frame}#{index}" for index in range(first, first + count)))

    def size(self, flow: str, frame: str, head: Head) -> int:
        """Return how many children a frame has by now."""
        if head.is_chain:
            return head.size
        return int(self.fields(flow, f"{frame}:size")[0] or head.size)

    def value(self, flow: str, frame: str, index: int, raw: bytes) -> Any:
        """Return the value of a child that is settled."""
        if raw[:1] == FRAME:
            return self.frame_value(flow, f"{frame}.{index}")
        return decode(raw[1:])

    def frame_value(self, flow: str, frame: str) -> Any:
        """Return the value of a frame whose children are settled: the last one's, or a list."""
        head = self.head(flow, frame)
        if head is None:
            return None
        if head.is_chain:
            last = head.size - 1
            [raw] = self.raw(flow, frame, last, 1) if head.size else [None]
            return None if raw is None else self.value(flow, frame, last, raw)
        values: list[Any] = []
        size = self.size(flow, frame, head)
        for first in range(0, size, BATCH):
            raws = self.raw(flow, frame, first, min(BATCH, size - first))
            values += [
                None if raw is None else self.value(flow, frame, index, raw)
                for index, raw in enumerate(raws, first)
            ]
        return values

    def is_piped(self, flow: str, frame: str, index: int, raw: bytes) -> bool:
        """Tell whether a child's value goes on to the next step."""
        while raw[:1] == FRAME:
            frame = f"{frame}.{index}"
            head = self.head(flow, frame)
            if head is None or not head.is_chain or not head.size:
                return True
            index = head.size - 1
            [last] = self.raw(flow, frame, index, 1)
            if last is None:
                return True
            raw = last
        return raw[:1] != UNPIPED

    def error(self, flow: str, frame: str, index: int) -> dict[str, Any] | None:
        """Return why a child failed; None if it did not."""
        [raw] = self.raw(flow, frame, index, 1)
        if raw is None or raw[:1] != FAILED:
            return None
        error: dict[str, Any] = decode(raw[1:])
        return error

    def outcome(self, flow: str, frame: str, index: int | None = None) -> tuple[State, Any]:
        """Return how far a frame or one of its children is, and its value or error, if any."""
        state, error = self.fields(flow, ":state", ":error")
        if state is None:
            return State.RUNNING, None  # or expired: there is no result, as far as we know
        if index is None:
            place = parent_of(frame)
            if place is None:
                return self._whole(flow, state, error)
            frame, index = place
        [raw] = self.raw(flow, frame, index, 1)
        if raw is not None and is_settled(raw):
            return State.DONE, self.value(flow, frame, index, raw)
        if raw is not None and raw[:1] == FAILED:
            return State.FAILED, decode(raw[1:])
        if state != RUNNING:
            return State(state.decode()), None if error is None else decode(error)
        return State.RUNNING, None

    def _whole(self, flow: str, state: bytes, error: bytes | None) -> tuple[State, Any]:
        if state == b"done":
            return State.DONE, self.frame_value(flow, ROOT)
        return State(state.decode()), None if error is None else decode(error)


class Input:
    """What the first steps of a frame are given: the result of the step before, if any.

    Read when it is first needed.

    Args:
        reader: The reader.
        flow: The workflow.
        frame: The frame.
        before: The index of the step of that frame whose result it is; None if the frame itself
            is given something.
    """

    def __init__(self, reader: Reader, flow: str, frame: str, before: int | None = None) -> None:
        self._reader = reader
        self._flow = flow
        self._frame = frame
        self._before = before
        self._values: tuple[Any, ...] | None = None

    def values(self) -> tuple[Any, ...]:
        """Return the arguments to add: one or none."""
        if self._values is None:
            self._values = self._read()
        return self._values

    def _read(self) -> tuple[Any, ...]:
        reader, flow, frame, index = self._reader, self._flow, self._frame, self._before
        while index is None:
            place = parent_of(frame)
            own = reader.head(flow, frame)
            if place is None or own is None or own.is_replacement:
                return ()
            frame, at = place
            head = reader.head(flow, frame)
            if head is not None and head.is_chain and at > 0:
                index = at - 1
        [raw] = reader.raw(flow, frame, index, 1)
        if raw is None or not reader.is_piped(flow, frame, index, raw):
            return ()
        return (reader.value(flow, frame, index, raw),)

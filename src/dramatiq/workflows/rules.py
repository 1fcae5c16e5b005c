"""The rules of arrivals: what a child's value does to its frame. Pure.

A value begins with a mark. Those of the first group let the frame go on; a frame that waits for
all of its children counts them. Redis has the same rules in ``redis_scripts/arrive.lua``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .store import Status

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from .store import Arrival, Change

__all__ = [
    "CANCELLED",
    "DONE",
    "FAILED",
    "FORGOTTEN",
    "FRAME",
    "RUNNING",
    "SETTLED",
    "TOLERATED",
    "UNPIPED",
    "arrive",
    "exchange",
]

#: A value that goes on to the next step.
DONE = b"+"
#: A value that does not.
UNPIPED = b"!"
#: It failed, which its policy allows; the value stands for it.
TOLERATED = b"~"
#: The value is that of the child's own frame, where it is kept.
FRAME = b"="
#: It failed; the value is the error.
FAILED = b"-"
#: Its message was not run, as the workflow is cancelled.
CANCELLED = b"c"
#: Not a value: the failure of a child's frame is taken back.
FORGOTTEN = b"u"
#: The marks that let a frame go on.
SETTLED = DONE + UNPIPED + TOLERATED + FRAME
#: The state of a workflow that goes on.
RUNNING = b"running"


def arrive(fields: MutableMapping[str, bytes], arrival: Arrival) -> Status:
    """Record an arrival in the fields of its workflow."""
    state = fields.get(":state")
    if state is None:
        return Status.GONE
    frame, mark = arrival.frame, arrival.value[:1]
    key = f"{frame}#{arrival.child}"
    old = fields.get(key, b"")[:1]
    has_recovered = False
    if not _is_void(old, mark):
        has_recovered = old == FAILED and mark != FAILED
        if mark == FAILED and old != FAILED:
            _count(fields, f"{frame}:bad", 1)
        elif has_recovered:
            _count(fields, f"{frame}:bad", -1)
        _record(fields, arrival, key, mark)
        if arrival.is_leaf:
            _count_leaf(fields, old, mark)
    return _status(fields, arrival, state, has_recovered=has_recovered)


def _is_void(old: bytes, mark: bytes) -> bool:
    """Tell whether an arrival changes nothing, after what has arrived before."""
    if mark == FORGOTTEN:
        return old != FAILED
    return bool(old) and (old in SETTLED or mark == CANCELLED)


def _record(fields: MutableMapping[str, bytes], arrival: Arrival, key: str, mark: bytes) -> None:
    if mark == FORGOTTEN:
        fields.pop(key, None)
        return
    fields[key] = arrival.value
    left = f"{arrival.frame}:left"
    if mark in SETTLED and left in fields:
        _count(fields, left, -1)


def _count_leaf(fields: MutableMapping[str, bytes], old: bytes, mark: bytes) -> None:
    if mark in SETTLED:
        _count(fields, ":done", 1)
    is_failed = mark == FAILED
    if is_failed != (old == FAILED):
        _count(fields, ":failed", 1 if is_failed else -1)


def _status(
    fields: MutableMapping[str, bytes], arrival: Arrival, state: bytes, *, has_recovered: bool
) -> Status:
    frame = arrival.frame
    if fields.get(f"{frame}#{arrival.child}", b"")[:1] == FAILED:
        return Status.FAILED
    if has_recovered or (state == b"failed" and not int(fields.get(f"{frame}:bad", b"0"))):
        return Status.RECOVERED
    if state != RUNNING:
        return Status.WAITING
    left = fields.get(f"{frame}:left")
    if left is not None:
        return Status.READY if int(left) <= 0 else Status.WAITING
    mark = fields.get(f"{frame}#{fields.get(f'{frame}:pos', b'-1').decode()}", b"")[:1]
    return Status.READY if mark and mark in SETTLED else Status.WAITING


def exchange(fields: MutableMapping[str, bytes], change: Change) -> bool:
    """Make a change; False if the fields are not as it expects."""
    if any(fields.get(name) != value for name, value in change.expected.items()):
        return False
    for name, value in change.values.items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value
    for name, number in change.increments.items():
        _count(fields, name, number)
    return True


def _count(fields: MutableMapping[str, bytes], name: str, number: int) -> None:
    fields[name] = b"%d" % (int(fields.get(name, b"0")) + number)

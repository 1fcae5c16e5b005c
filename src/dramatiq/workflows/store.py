"""What a store must do to keep workflows: a few fields per workflow, changed in atomic steps.

A workflow is a set of named fields with values in bytes, see `nodes` for their names. A store
knows nothing of them but the rules of an arrival, which count: those must be atomic and cheap.
Everything else is a comparison and an exchange.
"""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..delivery import Envelope

__all__ = [
    "FINISHED_TTL",
    "RUNNING_TTL",
    "Arrival",
    "Change",
    "Status",
    "WorkflowStore",
]

#: Milliseconds a workflow is kept without any progress: as long as dead letters, which may be put
#: back and let it go on.
RUNNING_TTL = 86_400_000 * 7
#: Milliseconds a workflow is kept after its end: its result can be read for that long.
FINISHED_TTL = 86_400_000


class Status(enum.IntEnum):
    """What an arrival leads to. The same arrival again leads to the same, until that is done."""

    #: There is no such workflow (any more).
    GONE = 0
    #: Others are still missing, or the workflow does not go on.
    WAITING = 1
    #: Its frame can go on: the next step, or the parent.
    READY = 2
    #: Its frame failed, which has to be told to the parent.
    FAILED = 3
    #: It had failed and has not any more, which has to be told to the parent.
    RECOVERED = 4


class Arrival(NamedTuple):
    """What became of one child of a frame."""

    flow: str
    frame: str
    child: int
    #: A mark (see `rules`), and for most of them an encoded value.
    value: bytes
    #: Whether it is a message: these are counted for the progress.
    is_leaf: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """Some fields to write if some others are as expected; all or nothing."""

    #: What must hold; None for a field that must not be there.
    expected: Mapping[str, bytes | None] = field(default_factory=dict)
    #: What to write; None removes a field.
    values: Mapping[str, bytes | None] = field(default_factory=dict)
    #: What to add to fields that are numbers.
    increments: Mapping[str, int] = field(default_factory=dict)
    #: Milliseconds the workflow lives from now on.
    ttl: int = RUNNING_TTL


class WorkflowStore(abc.ABC):
    """Keeps workflows. May be used from any thread and, where it is shared, any process.

    Every method raises `BrokerConnectionError` where the store cannot be reached.
    """

    #: Whether `change` stores messages in the same step; if not, ``envelopes`` must be empty.
    stores_messages = False

    @abc.abstractmethod
    def arrive(self, arrivals: Sequence[Arrival]) -> list[Status]:
        """Record arrivals, each in one atomic step by `rules.arrive`, all in one round trip."""

    @abc.abstractmethod
    def change(self, flow: str, change: Change, envelopes: Sequence[Envelope] = ()) -> bool:
        """Make a change, and store messages in the same step; False if it is not as expected."""

    @abc.abstractmethod
    def read(self, flow: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the values of some fields."""

    @abc.abstractmethod
    def add(self, flow: str, created_at: int) -> None:
        """Have a workflow listed, as long as it lives."""

    @abc.abstractmethod
    def flows(self, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
        """Return workflows, the newest first, and where the next ones are."""

    @abc.abstractmethod
    def delete(self, flow: str) -> None:
        """Forget a workflow."""

    @abc.abstractmethod
    def cancelled(self) -> set[str]:
        """Return the workflows that are marked cancelled."""

    @abc.abstractmethod
    def mark_cancelled(self, flow: str, is_cancelled: bool) -> None:
        """Mark a workflow cancelled, or take that back."""

"""The pipes between the supervisor and one child.

Four of them: the log (child to supervisor), the report about booting and notes later (child to
supervisor, a line of JSON each), the lifeline, which nobody ever writes to, and the relief. All
children hold the reading end of the lifeline, only the supervisor holds the writing end, so the
end of the file tells them that it is gone. A byte in the relief, which each child has for itself,
tells it that it has been replaced: a signal would count as a request to stop.
"""

from __future__ import annotations

import enum
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: Bytes of a report read at a time.
REPORT_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class BootReport:
    """How booting went, as the child tells the supervisor.

    Attributes:
        exit_code: 0 when the child is ready, else the code with which it ends.
        explanation: What went wrong, for people; empty when nothing did.
        summary: Lines that describe broker, queues and actors.
        warnings: Lines about what is probably a mistake in the command line.
        forks: Import paths of the functions that middleware want in processes of their own.
        recorder: Name of the flight recorder; empty if there is none.
    """

    exit_code: int = 0
    explanation: str = ""
    summary: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    forks: list[str] = field(default_factory=list)
    recorder: str = ""

    def encode(self) -> bytes:
        """Return one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Wish(enum.Enum):
    """What a child that is ready may ask for."""

    #: To be replaced: it goes on until another process is ready to take over.
    REPLACEMENT = "replacement"
    #: To end for good: there is nothing left to do.
    END = "end"


@dataclass(frozen=True, slots=True)
class Note:
    """What a child says after it has booted.

    Attributes:
        wish: What it wants.
        reason: Why, for the log.
    """

    wish: Wish
    reason: str

    def encode(self) -> bytes:
        """Return one line."""
        return json.dumps({"wish": self.wish.value, "reason": self.reason}).encode() + b"\n"


def decode_line(line: bytes) -> BootReport | Note:
    """Read the line that one of the two encoded."""
    values: dict[str, Any] = json.loads(line)
    if "wish" in values:
        return Note(Wish(values["wish"]), values["reason"])
    return BootReport(**values)


class ReportReader:
    """Collects what one child reports as it comes in.

    Args:
        descriptor: Non-blocking; owned by the caller.

    Attributes:
        at_end: Whether the child has closed the pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self.at_end = False
        self._descriptor = descriptor
        self._received = b""

    def read(self) -> BootReport | Note | None:
        """Return the next report or note whose line is complete; None if there is none."""
        while True:
            try:
                data = os.read(self._descriptor, REPORT_CHUNK)
            except BlockingIOError:
                break
            if not data:
                self.at_end = True
                break
            self._received += data

        line, end, self._received = self._received.partition(b"\n")
        if not end:
            self._received = line
            return None
        return decode_line(line)


class Closeable(Protocol):
    """What holds a file descriptor."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True)
class ChildChannel:
    """The child's ends of the pipes; it can be sent to a spawned interpreter.

    Attributes:
        log: Writing end of the log pipe.
        report: Writing end of the report.
        lifeline: Reading end; at its end the supervisor is gone.
        relief: Reading end; with a byte in it, another process has taken over.
        supervisor_pid: Who started the child.
        inherited: What a forked child must close because it belongs to the supervisor. While a
            child holds the reading end of a sibling's log, that sibling would block on a full
            pipe instead of noticing that nobody reads it any more.
    """

    log: Connection
    report: Connection
    lifeline: Connection
    relief: Connection
    supervisor_pid: int
    inherited: tuple[Closeable, ...] = ()

    def with_inherited(self, inherited: tuple[Closeable, ...]) -> ChildChannel:
        """Return a copy for a child that is forked."""
        return replace(self, inherited=inherited)

    def enter(self) -> None:
        """Close what belongs to the supervisor. First thing in the child."""
        for each in self.inherited:
            each.close()

    def send_report(self, report: BootReport | Note) -> None:
        """Tell the supervisor how booting went, once, or something later. One thread at a time."""
        remaining = memoryview(report.encode())
        with suppress(BrokenPipeError):  # it is gone; the lifeline says so too
            while remaining:
                remaining = remaining[os.write(self.report.fileno(), remaining) :]


def die_with_supervisor(supervisor_pid: int, signal_number: int) -> bool:
    """Ask the kernel for a signal when the supervisor dies. Linux only.

    Args:
        supervisor_pid: The parent, which must be a process that forks from its main thread.
        signal_number: What to send.

    Returns:
        Whether the kernel will do it; elsewhere the lifeline has to be watched.
    """
    import sys

    if sys.platform != "linux":
        return False
    import ctypes

    pr_set_pdeathsig = 1
    if ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal_number, 0, 0, 0) != 0:
        return False
    if os.getppid() != supervisor_pid:  # it died before we asked
        os.kill(os.getpid(), signal_number)
    return True

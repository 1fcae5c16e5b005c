"""Where the lines of all processes end: standard error or the log file, which may be stuck.

Whoever reads standard error may be slow, stopped (`less`, Ctrl-S) or dead, and a disk may be full.
None of that may keep the supervisor from starting, stopping or collecting processes, nor workers
from working. So nothing here waits for long: what cannot be written is held, up to a limit, and
what comes on top of that is dropped and counted.
"""

from __future__ import annotations

import io
import os
import select
import stat
import time
from contextlib import suppress
from selectors import EVENT_WRITE
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from selectors import BaseSelector
    from typing import TextIO

#: Bytes held for a reader that is behind.
HELD_AT_MOST = 1_048_576

#: Bytes written at a time to a pipe or socket that is ready. Those take this much without waiting
#: (it is PIPE_BUF of Linux), so the descriptor need not be made non-blocking: that would change it
#: for every process that shares it, the user's shell among them.
PIECE = 4096

#: The same for terminals, whose buffers are smaller.
TERMINAL_PIECE = 256

#: Seconds that a write waits for room before it drops lines: a reader that is merely slower than
#: the workers slows them down instead of losing lines. One that has not moved for so long is
#: taken for stopped, and is not waited for again until it moves.
PATIENCE_S = 1.0

#: Seconds that the last lines may take at the end.
LAST_WORDS_S = 5.0


def describe_gap(dropped: int) -> str:
    """Return the line that stands for lines that were dropped."""
    return (
        f"[dramatiq] {dropped} lines of the log were dropped here, because they could not be "
        "written."
    )


class LogSink:
    """Takes complete lines and writes them as soon as it can.

    The supervisor's only thread alone.

    Args:
        stream: Standard error or the log file; what has no descriptor is written to directly.
        describe_gap: Makes the line that stands for so many dropped ones.

    Attributes:
        dropped: Lines that were dropped and not yet spoken of.
    """

    def __init__(self, stream: TextIO, describe_gap: Callable[[int], str] = describe_gap) -> None:
        self.stream = stream
        self.dropped = 0
        self._describe_gap = describe_gap
        self._held = bytearray()
        self._ends_line = True
        self._is_stuck = False
        self._is_gone = False
        self._selector: BaseSelector | None = None
        self._descriptor = _descriptor_of(stream)
        self._piece, self._may_wait = _way_to_write(self._descriptor)

    def write(self, data: bytes) -> None:
        """Take complete lines. Undecodable bytes are replaced.

        Once a line was dropped, all are, until what is held is out and the gap is told of: lines
        keep their order.
        """
        text = data.decode("utf-8", errors="replace")
        if self._descriptor is None:
            with suppress(OSError, ValueError, AttributeError):
                self.stream.write(text)
                self.stream.flush()
            return
        encoded = text.encode(self.stream.encoding or "utf-8", self.stream.errors or "replace")
        self.flush()
        if self.dropped or self._is_gone or not self._makes_room_for(encoded):
            self.dropped += encoded.count(b"\n")
        else:
            self._held += encoded
            self.flush()

    def flush(self) -> None:
        """Write what is held as far as that needs no waiting."""
        while self._held and self._write_piece():
            continue
        if not self._held and self.dropped and not self._is_gone and self._is_ready():
            self._tell_of_gap()
        self._watch()

    def close(self) -> None:
        """Write what is held, without waiting longer than a moment for a stuck reader."""
        deadline = time.monotonic() + LAST_WORDS_S
        while self._held and not self._is_stuck and time.monotonic() < deadline:
            self._wait_and_write()
        self.flush()
        self.detach()

    def attach(self, selector: BaseSelector) -> None:
        """Have a loop write what is held when there is room; its keys carry what to call."""
        self._selector = selector
        self._watch()

    def detach(self) -> None:
        """Leave the loop."""
        if self._selector is not None and self._is_watched(self._selector):
            self._selector.unregister(self._descriptor)  # type: ignore[arg-type]  # it is watched
        self._selector = None

    def as_stream(self) -> TextIO:
        """Return a text stream that writes here: for the supervisor's own log records."""
        return cast("TextIO", _SinkStream(self.write))

    def _makes_room_for(self, encoded: bytes) -> bool:
        """Wait for room, if that promises any; tell whether there is."""
        deadline = time.monotonic() + PATIENCE_S
        while self._held and len(self._held) + len(encoded) > HELD_AT_MOST:
            if self._is_stuck or time.monotonic() > deadline:
                return False
            self._wait_and_write()
        return not self._is_gone

    def _wait_and_write(self) -> None:
        if self._may_wait and self._descriptor is not None:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll(PATIENCE_S * 1000)
        self._is_stuck = not self._write_piece()

    def _write_piece(self) -> bool:
        """Write a piece if that needs no waiting; tell whether it went out."""
        if not self._is_ready():
            return False
        written = self._write_out(self._held[: self._piece])
        if written is None:
            # Whole lines: what is written later begins a line of its own.
            self.dropped += self._held.count(b"\n")
            self._held.clear()
            return False
        del self._held[:written]
        self._is_stuck = self._is_stuck and not written
        return bool(written)

    def _tell_of_gap(self) -> None:
        start = b"" if self._ends_line else b"\n"
        notice = start + self._describe_gap(self.dropped).encode() + b"\n"
        written = self._write_out(notice)
        if written:
            self.dropped = 0
            self._is_stuck = False
            self._held += notice[written:]

    def _write_out(self, data: bytes | bytearray) -> int | None:
        """Return how many bytes could be written; None if they never will."""
        if self._descriptor is None:
            return None
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:  # somebody else made it non-blocking
            return 0
        except OSError as error:  # a full disk may have room again, a dead reader does not return
            self._is_gone = isinstance(error, BrokenPipeError)
            return None
        self._ends_line = data[written - 1 : written] == b"\n"
        return written

    def _is_ready(self) -> bool:
        """Tell whether a piece can be written without waiting, or fails at once."""
        if not self._may_wait or self._descriptor is None:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))

    def _watch(self) -> None:
        if self._selector is None or not self._may_wait or self._descriptor is None:
            return
        is_behind = bool(self._held or self.dropped) and not self._is_gone
        if is_behind == self._is_watched(self._selector):
            return
        if is_behind:
            self._selector.register(self._descriptor, EVENT_WRITE, self.flush)
        else:
            self._selector.unregister(self._descriptor)

    def _is_watched(self, selector: BaseSelector) -> bool:
        return self._descriptor is not None and self._descriptor in selector.get_map()


class _SinkStream(io.TextIOBase):
    """A text stream for whole records."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, text: str, /) -> int:
        self._write(text.encode(errors="replace"))
        return len(text)


def _descriptor_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):  # in memory, closed, or none at all
        return None


def _way_to_write(descriptor: int | None) -> tuple[int, bool]:
    """Return how many bytes to write at a time, and whether writing may have to wait."""
    if descriptor is None or not hasattr(select, "poll"):
        return PIECE, False
    if os.isatty(descriptor):
        return TERMINAL_PIECE, True
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return PIECE, True
    return HELD_AT_MOST, False

"""Both ends of a log pipe: a child writes lines into it, the supervisor's loop copies them."""

from __future__ import annotations

import os
from contextlib import suppress
from selectors import EVENT_READ
from threading import get_ident
from typing import TYPE_CHECKING, AnyStr

from ..compat import StreamablePipe

if TYPE_CHECKING:
    from selectors import BaseSelector

    from .sink import LogSink

#: Bytes read from a log pipe at a time.
BUFSIZE = 65_536

#: An unfinished line longer than this is passed on in pieces: memory stays bounded.
LONGEST_LINE = 65_536

#: Reads made to empty a pipe. What a process left fits into its pipe (64 KiB on Linux); more than
#: that comes from somebody who may never stop writing.
LAST_READS = 64


def end_of_lines(data: AnyStr, *ends: AnyStr) -> int:
    """Return how much of the data consists of complete lines.

    Args:
        data: What came so far.
        ends: What ends a line. A carriage return does as well as a newline: progress bars write
            nothing else for minutes.
    """
    end = max(data.rfind(each) for each in ends) + 1
    return end or (len(data) if len(data) > LONGEST_LINE else 0)


class PipeWriter:
    """The writing end of a log pipe: bytes without frames, from any thread.

    Standard output must never make an actor fail, so text is dropped once nobody reads any more
    (the supervisor was killed and this process is finishing its work).

    Args:
        descriptor: A blocking file descriptor; owned from here on.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.closed = False

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def send_bytes(self, data: bytes) -> None:
        """Write all of the data, waiting for the reader as long as there is one."""
        if self.closed:
            return
        remaining = memoryview(data)
        with suppress(BrokenPipeError):
            while remaining:
                remaining = remaining[os.write(self._descriptor, remaining) :]

    def close(self) -> None:
        """Close the pipe. Harmless when it is closed already."""
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)


class LineStream(StreamablePipe):
    """Standard output of a process with many threads, none of which breaks another one's line.

    `print` writes its arguments one by one. They are held until the line is complete or the same
    thread flushes, and for each thread apart.
    """

    def __init__(self, pipe: PipeWriter) -> None:
        super().__init__(pipe)
        self._held: dict[int, str] = {}  # by thread; each touches its own entry only

    def write(self, text: str, /) -> int:
        """Send the lines that are complete now."""
        text_so_far = self._held.pop(get_ident(), "") + text
        end = end_of_lines(text_so_far, "\n", "\r")
        if end < len(text_so_far):
            self._held[get_ident()] = text_so_far[end:]
        self._send(text_so_far[:end])
        return len(text)

    def flush(self) -> None:
        """Send the unfinished line of this thread."""
        self._send(self._held.pop(get_ident(), ""))

    def finish(self) -> None:
        """Send the unfinished lines of all threads, when none of them writes any more."""
        while self._held:
            self._send(self._held.popitem()[1])

    def _send(self, text: str) -> None:
        super().write(text)


class LogReader:
    """The reading end of one child's log pipe.

    Args:
        descriptor: Non-blocking; owned by the caller.
        sink: Takes the lines.

    Attributes:
        at_end: Whether the last writer has closed the pipe.
    """

    def __init__(self, descriptor: int, sink: LogSink) -> None:
        self._descriptor = descriptor
        self._sink = sink
        self._unfinished = b""
        self.at_end = False

    def read(self) -> bool:
        """Pass on what one read brings.

        Returns:
            Whether there may be more to read now.
        """
        try:
            data = os.read(self._descriptor, BUFSIZE)
        except BlockingIOError:
            return False
        if not data:
            self.at_end = True
            return False

        self._unfinished += data
        end = end_of_lines(self._unfinished, b"\n", b"\r")
        if end:
            self._sink.write(self._unfinished[:end])
            self._unfinished = self._unfinished[end:]
        return True

    def drain(self) -> None:
        """Pass on the complete lines that are in the pipe now."""
        for _ in range(LAST_READS):
            if not self.read():
                break

    def finish(self) -> None:
        """Pass on all that a process left behind, an unfinished last line included."""
        self.drain()
        if self._unfinished:
            self._sink.write(self._unfinished + b"\n")
            self._unfinished = b""


def watch_logs(selector: BaseSelector, descriptor: int, sink: LogSink) -> LogReader:
    """Have the supervisor's loop copy a log pipe.

    Args:
        selector: The loop's; its keys carry the function to call when the descriptor is readable.
        descriptor: Reading end of the pipe, non-blocking.
        sink: Takes the lines.

    Returns:
        The reader, whose `finish` is due when the process has ended.
    """
    reader = LogReader(descriptor, sink)

    def copy() -> None:
        reader.read()
        if reader.at_end:
            selector.unregister(descriptor)

    selector.register(descriptor, EVENT_READ, copy)
    return reader


def open_log_pipe(descriptor: int) -> LineStream:
    """Return the text stream that writes into a log pipe."""
    return LineStream(PipeWriter(descriptor))

"""Small bridges between processes, pipes and text streams."""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

__all__ = ["StreamablePipe", "file_or_stderr"]


class StreamablePipe(io.TextIOBase):
    """Write text into a pipe as if it were a file.

    Every write goes out at once and as a whole: there is nothing to flush. It may be used from
    any thread as far as the connection allows it.

    Args:
        pipe: The writing end: anything with `send_bytes`, `fileno`, `close` and `closed`, such as
            a `multiprocessing` connection.
        encoding: How text becomes bytes. What cannot be encoded is replaced.
    """

    def __init__(self, pipe: Any, *, encoding: str = "utf-8") -> None:
        self._pipe = pipe
        self._encoding = encoding

    # The base class has these two as attributes that are always None.
    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The name of the encoding."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What happens to text that cannot be encoded: it is replaced."""
        return "replace"

    @property
    def closed(self) -> bool:
        """Whether the pipe was closed."""
        return bool(self._pipe.closed)

    def fileno(self) -> int:
        """Return the file descriptor of the pipe."""
        return int(self._pipe.fileno())

    def isatty(self) -> bool:
        """Return False: nobody types here."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1, /) -> NoReturn:
        """Refuse: the stream can only be written.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("A StreamablePipe can only be written to.")

    def write(self, text: str, /) -> int:
        """Send the text through the pipe.

        Returns:
            The number of characters written: always all of them.
        """
        if text:
            self._pipe.send_bytes(text.encode(self._encoding, errors="replace"))
        return len(text)

    def flush(self) -> None:
        """Do nothing: writes are never held back."""

    def close(self) -> None:
        """Close the pipe. Harmless when it is closed already."""
        if not self.closed:
            self._pipe.close()


@contextmanager
def file_or_stderr(
    filename: str | None, *, mode: str = "a", encoding: str = "utf-8"
) -> Iterator[TextIO]:
    """Open a file, or borrow the standard error stream when no file is named.

    Args:
        filename: The file, or None for standard error, which is left open.
        mode: How the file is opened; appending by default.
        encoding: Of the file.

    Yields:
        The stream to write to.

    Raises:
        OSError: The file cannot be opened.
    """
    if filename is None:
        yield sys.stderr
        return

    with Path(filename).open(mode, encoding=encoding) as file:
        yield file  # type: ignore[misc]  # the mode is text: "b" with an encoding is refused

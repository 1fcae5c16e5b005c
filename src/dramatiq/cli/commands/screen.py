"""A terminal in the hands of a program that draws all of it, and gets it back as it was."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from ..signals import SignalInbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

__all__ = ["Screen"]

#: The other screen of the terminal, so that what was there comes back; without a cursor.
ENTER = "\x1b[?1049h\x1b[?25l"
LEAVE = "\x1b[?25h\x1b[?1049l"
HOME = "\x1b[H"
CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Screen:
    """Draws frames and listens to keys. A context manager; main thread only.

    ``q``, Ctrl-C and the signals that end programs end it; the terminal is restored whatever
    happens inside. A frame is written in one go over the last one, so that nothing flickers.
    """

    def __init__(self) -> None:
        self._inbox = SignalInbox(_ENDING | {signal.SIGWINCH})
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._inbox)
            self._take_keys(stack)
            stack.callback(_write, LEAVE)
            _write(ENTER)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, and nothing else."""
        body = "\r\n".join(f"{line}{CLEAR_LINE}" for line in lines)
        _write(f"{HOME}{body}{CLEAR_BELOW}")

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        return shutil.get_terminal_size()

    def wait(self, seconds: float) -> bool:
        """Wait for the time to draw again: it is over, or the size has changed.

        Returns:
            False if the user wants to end.
        """
        deadline = time.monotonic() + seconds
        sources = [self._inbox.reader, *([sys.stdin.fileno()] if sys.stdin.isatty() else [])]
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select(sources, [], [], left)
            if self._inbox.reader in ready:
                return not _ENDING & set(self._inbox.read())
            if ready and not self._go_on_after_keys():
                return False
        return True

    @staticmethod
    def _go_on_after_keys() -> bool:
        keys = os.read(sys.stdin.fileno(), 64)
        return bool(keys) and b"q" not in keys.lower()

    @staticmethod
    def _take_keys(stack: contextlib.ExitStack) -> None:
        """Get keys at once and unseen; leave the terminal as it was."""
        if not sys.stdin.isatty():
            return
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        before: list[Any] = termios.tcgetattr(descriptor)
        stack.callback(termios.tcsetattr, descriptor, termios.TCSADRAIN, before)
        tty.setcbreak(descriptor)
        settings: list[Any] = termios.tcgetattr(descriptor)
        # Ctrl-Z would leave the shell on our screen.
        settings[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

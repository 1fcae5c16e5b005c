"""`top` on a real terminal: it draws, ends when told to, and leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from .conftest import DEADLINE_S

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """A terminal with a program on it."""

    def __init__(self, directory, *arguments):
        self.master, self.slave = pty.openpty()
        self.resize(80, 24)
        self.settings = termios.tcgetattr(self.slave)
        self.output = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", *arguments],
            cwd=directory,
            env={**os.environ, "DRAMATIQ_BROKER_URL": "sqlite:///dramatiq.db", "TERM": "xterm"},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
        )

    def resize(self, columns, lines):
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)

    def press(self, keys):
        os.write(self.master, keys)

    def wait_for(self, text, count=1):
        deadline = time.monotonic() + DEADLINE_S
        while self.output.count(text) < count:
            if not self._read(deadline - time.monotonic()):
                pytest.fail(f"{text!r} did not come {count} times: {self.output!r}")

    def wait(self):
        """Return the exit code, with all of the output read."""
        code = self.process.wait(DEADLINE_S)
        while self._read(0):
            continue
        return code

    def _read(self, patience_s):
        ready, _, _ = select.select([self.master], [], [], max(patience_s, 0))
        if ready:
            self.output += os.read(self.master, 65_536)
        return bool(ready)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(tmp_path):
    terminals = []

    def start(*arguments):
        terminals.append(Terminal(tmp_path, *arguments))
        return terminals[-1]

    yield start
    for each in terminals:
        each.close()


def end_with_key(terminal):
    terminal.press(b"q")


def end_with_interrupt(terminal):
    terminal.process.send_signal(signal.SIGINT)


def end_with_terminate(terminal):
    terminal.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("end", [end_with_key, end_with_interrupt, end_with_terminate])
def test_the_screen_ends_and_the_terminal_is_as_it_was(terminal, end):
    top = terminal("top", "--interval", "0.1")
    top.wait_for(b"Recent failures", 3)

    end(top)

    assert top.wait() == 0
    assert top.output.startswith(ENTER)
    assert top.output.endswith(LEAVE)
    assert termios.tcgetattr(top.slave) == top.settings


def test_frames_fit_the_terminal_when_it_changes_its_size(terminal):
    top = terminal("top", "--interval", "3600")
    top.wait_for(b"Recent failures")
    frame = top.output.rpartition(b"\x1b[H")[2]

    top.resize(20, 4)
    top.process.send_signal(signal.SIGWINCH)
    top.wait_for(b"\x1b[H", 2)
    top.wait_for(b"\x1b[J", 2)

    smaller = top.output.rpartition(b"\x1b[H")[2]
    assert frame.count(b"\r\n") > 4
    assert smaller.count(b"\r\n") == 3
    top.press(b"q")
    assert top.wait() == 0


def test_other_keys_are_not_shown_and_end_nothing(terminal):
    top = terminal("top", "--interval", "0.1")
    top.wait_for(b"Recent failures")

    top.press(b"zzz")
    top.wait_for(b"Recent failures", top.output.count(b"Recent failures") + 2)

    assert b"zzz" not in top.output
    top.press(b"Q")
    assert top.wait() == 0


def test_one_frame_is_left_on_the_screen(terminal):
    top = terminal("top", "--once")

    assert top.wait() == 0
    assert ENTER not in top.output
    assert b"Recent failures" in top.output

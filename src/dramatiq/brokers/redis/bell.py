"""Waiting for a list to have something in it, without taking anything and without polling.

The server moves the head of the list onto itself as soon as there is one: nothing changes, but
the answer comes. Nobody has to cooperate: any producer's push rings, in whatever language it is
written. All who wait are answered. https://redis.io/docs/latest/commands/blmove/
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from typing import Any

from ...errors import BrokerConnectionError, ConnectionFailed
from ...redis import Link
from ...redis.client import COMMAND_TIMEOUT_S
from ...redis.failures import RedisTimedOut, is_out_of_memory

__all__ = ["Bell"]

#: Seconds one command waits in the server. An answer that is much later says that the connection
#: is dead.
RING_TIMEOUT_S = 3.0
#: Seconds between two looks while the server, at its maxmemory, refuses to let us wait.
POLL_S = 0.25


class Bell:
    """Waits at one list. Belongs to one thread, but for `interrupt`.

    Args:
        client: The client.
        key: The list.
    """

    def __init__(self, client: Any, key: bytes) -> None:
        self._link = Link(client, key)
        self._key = key
        #: When the command that is under way will have been answered at the latest.
        self._answer_by: float | None = None
        self._is_closed = False
        #: When to listen again, by the monotonic clock.
        self._listen_at = 0.0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the list has something in it, or `interrupt`, or for so many seconds.

        Returns:
            Whether the list had something in it.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        now = time.monotonic()
        until = now + timeout_s
        if self._listen_at > now and (
            self._poll_interrupt(min(until, self._listen_at) - now) or self._listen_at >= until
        ):
            return False
        while True:
            try:
                self._arm()
                readable = self._poll(until)
                if self._link.fileno() in readable and self._answer():
                    return True
            except BrokerConnectionError as error:
                self._answer_by = None
                if not is_out_of_memory(error):
                    raise
                # Whoever frees memory must not wait for it: look again before long.
                self._poll_interrupt(min(POLL_S, max(0.0, until - time.monotonic())))
                return True
            if self._reader in readable or time.monotonic() >= until:
                self._clear()
                return False

    def ignore_until(self, moment_s: float) -> None:
        """Do not listen before a moment on the monotonic clock."""
        self._listen_at = max(self._listen_at, moment_s)

    def interrupt(self) -> None:
        """Make `wait` return. Any thread."""
        # A pipe that is full has been heard.
        with suppress(BlockingIOError):
            if not self._is_closed:
                os.write(self._writer, b"x")

    def reset(self) -> None:
        """Close the connection; a next wait opens another."""
        self._answer_by = None
        self._link.close()

    def close(self) -> None:
        """Close everything. Harmless when called twice."""
        self.reset()
        if not self._is_closed:
            self._is_closed = True
            os.close(self._reader)
            os.close(self._writer)

    def _arm(self) -> None:
        if self._answer_by is not None and self._link.is_open:
            return
        command = (b"BLMOVE", self._key, self._key, b"LEFT", b"LEFT", RING_TIMEOUT_S)
        self._link.send([command])
        self._answer_by = time.monotonic() + RING_TIMEOUT_S + COMMAND_TIMEOUT_S

    def _poll(self, until: float) -> set[int]:
        assert self._answer_by is not None  # noqa: S101 (set by _arm)
        now = time.monotonic()
        if now >= self._answer_by:
            self.reset()
            raise RedisTimedOut(
                f"Redis at {self._link.where} did not answer a command that waits "
                f"{RING_TIMEOUT_S:.0f} seconds"
            )
        poll = select.poll()  # not select(): descriptors may be numbered high
        poll.register(self._link.fileno(), select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        timeout_s = max(0.0, min(until, self._answer_by) - now)
        return {descriptor for descriptor, _ in poll.poll(timeout_s * 1000)}

    def _poll_interrupt(self, timeout_s: float) -> bool:
        """Wait for so long; tell whether `interrupt` was called meanwhile."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return False
        self._clear()
        return True

    def _answer(self) -> bool:
        [answer] = self._link.receive(1)
        self._answer_by = None
        if isinstance(answer, Exception):
            raise ConnectionFailed(
                f"Redis at {self._link.where} cannot wait for messages; it must be version 6.2 or "
                f"newer, or compatible with that. ({answer})"
            ) from answer
        return answer is not None

    def _clear(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                continue

"""The connection of one kind that a process has: opened when it is used, anew when it was lost."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from ...errors import BrokerConnectionError
from .parameters import as_list
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Link"]

#: Seconds for which a failure to connect is everybody's answer, so that many threads do not wait
#: for one attempt each.
SHARE_FAILURE_S = 0.5


class Link:
    """May be used from any thread, and after a fork.

    Args:
        parameters: Tells where the servers are.
        name: What it is for.
    """

    def __init__(self, parameters: Callable[[], Any], name: str) -> None:
        self._parameters = parameters
        self._name = name
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._failure: tuple[float, BrokerConnectionError] | None = None

    def session(self) -> Session:
        """Return a connection that works, as far as we know.

        Raises:
            BrokerConnectionError: If there is none to be had.
        """
        if self._pid != os.getpid():
            self._reset()  # all of it is the parent's, the lock included
        session = self._session
        if session is not None and session.error is None:
            return session
        with self._lock:
            if self._session is None or self._session.error is not None:
                self._session = self._open()
            return self._session

    def _open(self) -> Session:
        if self._failure is not None:
            failed_at, error = self._failure
            if time.monotonic() - failed_at < SHARE_FAILURE_S:
                raise type(error)(error.message) from error
        session = Session(as_list(self._parameters()), self._name)
        try:
            session.open()
        except BrokerConnectionError as error:
            self._failure = (time.monotonic(), error)
            raise
        self._failure = None
        return session

    def close(self) -> None:
        """Close the connection; a next use opens another."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

"""One connection and the thread that serves it.

Everything of pika's is touched by that thread alone: others hand it calls with `Session.call` and
wait for what becomes of them. It answers heartbeats however long nobody has anything to say. A
session that is lost stays lost; `Link` makes the next one.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pika  # type: ignore[import-untyped]
from pika.adapters.select_connection import IOLoop  # type: ignore[import-untyped]

from ...errors import BrokerConnectionError, ConnectionClosed
from ...logging import get_logger
from .failures import RabbitmqBlocked, explain, explain_opening
from .parameters import CONNECT_TIMEOUT_S, describe, prepare
from .quiet import THREAD_PREFIX, quieten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ANSWER_TIMEOUT_S", "Session"]

#: Seconds the server may take to answer anything, before the connection counts as dead.
ANSWER_TIMEOUT_S = 20.0
#: Seconds between two looks at whether anything arrives, and how many looks in a row may find
#: nothing. From the first on the server has something to answer. Looks are counted, not time: of a
#: process that was stopped, or whose interpreter was held, the server's answer waits in the socket.
PROBE_S, MAX_SILENT_PROBES = 2.0, 4
#: Seconds to wait for one that has said that it takes no messages at present.
BLOCKED_TIMEOUT_S = 5.0


class _Loop(IOLoop):  # type: ignore[misc]
    """pika's loop, which also knows what it watches: a forked child has to close that."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptors: set[int] = set()

    def add_handler(self, fd: int, handler: Any, events: int) -> None:
        self.descriptors.add(fd)
        super().add_handler(fd, handler, events)

    def remove_handler(self, fd: int) -> None:
        self.descriptors.discard(fd)
        super().remove_handler(fd)


class Session:
    """One connection to the first server that lets us in.

    Args:
        parameters: The servers, in the order to try them.
        name: What it is for; the name of the thread.
    """

    def __init__(self, parameters: Sequence[Any], name: str) -> None:
        self.logger = get_logger("dramatiq.brokers.rabbitmq", type(self))
        self.parameters = parameters
        self.where = describe(parameters[0])
        #: pika's connection; for its own thread.
        self.connection: Any = None
        #: Why it is lost.
        self.error: BrokerConnectionError | None = None
        #: Why the server takes no messages at present, in its words; None while it does.
        self.blocked: str | None = None
        #: Publishes on it; kept here for `publisher_of`.
        self.publisher: Any = None
        #: Called in its thread when it is lost.
        self.listeners: list[Callable[[BrokerConnectionError], None]] = []
        self._lock = threading.Lock()
        self._pending: set[Future[Any]] = set()
        self._opened: Future[None] = Future()
        self._failed: list[tuple[str, BaseException]] = []
        self._loop: Any = None
        self._thread = threading.Thread(
            target=self._run, name=f"{THREAD_PREFIX}{name}", daemon=True
        )

    # -- life

    def open(self) -> None:
        """Connect.

        Raises:
            BrokerConnectionError: If no server lets us in; the text says why.
        """
        quieten()
        _sessions.add(self)
        self._thread.start()
        try:
            self._opened.result((CONNECT_TIMEOUT_S + 1) * len(self.parameters))
        except FutureTimeout:
            self.fail(ConnectionClosed(f"RabbitMQ at {self.where} did not let us in in time"))
            raise explain_opening([*self._failed, (self.where, TimeoutError())]) from None

    def _run(self) -> None:
        for each in self.parameters:
            self.where = describe(each)
            self._serve(each)
            if self._opened.done() or self.error is not None:
                return
        error = explain_opening(self._failed)
        self._lose(error)
        self._opened.set_exception(error)

    def _serve(self, parameters: Any) -> None:
        self._loop = loop = _Loop()
        try:
            self.connection = pika.SelectConnection(
                prepare(parameters),
                on_open_callback=self._on_open,
                on_open_error_callback=self._on_open_error,
                on_close_callback=self._on_close,
                custom_ioloop=loop,
            )
            loop.start()
        except Exception as error:
            self._failed.append((self.where, error))
            if self._opened.done():
                self.logger.exception("The connection to RabbitMQ is given up.")
                self._lose(explain(error, self.where))
        finally:
            for descriptor in list(loop.descriptors):
                with suppress(Exception):
                    loop.remove_handler(descriptor)
            with suppress(Exception):
                loop.close()

    def _on_open(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._opened.set_result(None)
        self._received, self._silent_probes = 0, 0
        self._loop.call_later(PROBE_S, self._probe)

    def _probe(self) -> None:
        """Find out whether the server is still there, though the kernel knows of nothing wrong."""
        if self.error is not None or not self.connection.is_open:
            return
        received = self.connection.bytes_received
        # From connections that it has blocked it does not read.
        is_silent = received == self._received and self.blocked is None
        self._silent_probes = self._silent_probes + 1 if is_silent else 0
        self._received = received
        if self._silent_probes > MAX_SILENT_PROBES:
            self.fail(ConnectionClosed(f"RabbitMQ at {self.where} does not answer any more."))
            return
        if self._silent_probes == 1:
            # Two questions of which nobody needs the answers.
            self.connection.channel(on_open_callback=lambda channel: channel.close())
        self._loop.call_later(PROBE_S, self._probe)

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason)
        self.logger.warning("RabbitMQ at %s takes no messages: %s.", self.where, self.blocked)

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self.blocked = None
        self.logger.warning("RabbitMQ at %s takes messages again.", self.where)

    def _on_open_error(self, _connection: Any, error: BaseException) -> None:
        self._failed.append((self.where, error))
        self._loop.stop()

    def _on_close(self, _connection: Any, reason: BaseException) -> None:
        self._lose(explain(reason, self.where))
        self._loop.stop()

    def _lose(self, error: BrokerConnectionError) -> None:
        with self._lock:
            if self.error is not None:
                return
            self.error = error
            pending = list(self._pending)
            self._pending.clear()
        for promise in pending:
            reject(promise, error)
        for listener in self.listeners:
            listener(error)

    def fail(self, error: BrokerConnectionError) -> None:
        """Give the connection up, as it does not do what it should. Any thread."""
        self._lose(error)
        loop = self._loop
        if loop is not None:
            with suppress(Exception):
                loop.add_callback_threadsafe(self._abort)

    def _abort(self) -> None:
        # No handshake: whoever is there does not answer. pika stops the loop through `_on_close`.
        with suppress(Exception):
            self.connection._terminate_stream(self.error)
        self._loop.call_later(1, self._loop.stop)

    def close(self) -> None:
        """Say goodbye and end the thread. Harmless when called twice."""
        if self.error is None:
            with suppress(BrokerConnectionError):
                self.submit(self._close_connection)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(CONNECT_TIMEOUT_S)
            if self._thread.is_alive():
                self.fail(ConnectionClosed("closed"))
                self._thread.join(CONNECT_TIMEOUT_S)

    def _close_connection(self) -> None:
        with suppress(Exception):
            self.connection.close()

    def abandon(self) -> None:
        """Let go of the parent's connection in a forked child, without a word to the server.

        While a child had it open, the server would not notice the parent's death.
        """
        self.error = ConnectionClosed("the connection belongs to the parent of this process")
        loop = self._loop
        for descriptor in list(getattr(loop, "descriptors", ())):
            with suppress(OSError):
                os.close(descriptor)

    # -- calls

    def submit(self, function: Callable[[], None]) -> None:
        """Have the thread call a function. Any thread.

        Raises:
            BrokerConnectionError: If the session is lost.
        """
        try:
            if self.error is None:
                self._loop.add_callback_threadsafe(function)
        except Exception as error:
            # The loop ended this very moment.
            raise ConnectionClosed(f"RabbitMQ at {self.where}: the connection is lost") from error
        if self.error is not None:
            raise self.error

    def promise(self) -> Future[Any]:
        """Return a future that fails when the session is lost. Any thread.

        Raises:
            BrokerConnectionError: If it is lost already.
        """
        promise: Future[Any] = Future()
        with self._lock:
            if self.error is not None:
                raise self.error
            self._pending.add(promise)
        promise.add_done_callback(self._pending.discard)
        return promise

    def call(self, start: Callable[[Future[Any]], None]) -> Any:
        """Have the thread start something and wait until it settles the promise. Any thread.

        Raises:
            BrokerConnectionError: If the session is lost, or the server does not answer.
        """
        promise = self.promise()
        self.submit(partial(self._start, start, promise))
        return self.wait(promise)

    def _start(self, start: Callable[[Future[Any]], None], promise: Future[Any]) -> None:
        try:
            start(promise)
        except Exception as error:
            reject(promise, explain(error, self.where))

    def wait(self, promise: Future[Any]) -> Any:
        """Wait for a promise; a server that does not answer counts as lost.

        Raises:
            BrokerConnectionError: If the session is lost, or the server does not answer.
            RabbitmqBlocked: If it takes no messages. What was published may be stored later.
        """
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            remaining = deadline - time.monotonic()
            try:
                return promise.result(min(remaining, BLOCKED_TIMEOUT_S))
            except FutureTimeout:
                if self.blocked is not None:
                    raise RabbitmqBlocked(
                        f"RabbitMQ at {self.where} takes no messages: {self.blocked}. It does "
                        "again when its memory or disk has space; workers empty it meanwhile."
                    ) from None
                if remaining > BLOCKED_TIMEOUT_S:
                    continue
            error = ConnectionClosed(
                f"RabbitMQ at {self.where} did not answer within {ANSWER_TIMEOUT_S:.0f} seconds."
            )
            self.fail(error)
            raise error

    def converse(self, script: Any) -> Any:
        """Run a script on a channel of its own and return what it returns. Any thread.

        Args:
            script: Called with the channel; a generator of calls that take a ``callback``, to
                which the server's answers are sent.

        Raises:
            BrokerConnectionError: If the server closed the channel or the connection.
        """
        return self.call(lambda promise: _Conversation(self, script, promise).open())


class _Conversation:
    """A channel on which one script runs. For the session's thread."""

    def __init__(self, session: Session, script: Any, promise: Future[Any]) -> None:
        self._session = session
        self._script = script
        self._promise = promise
        self._result: Any = None
        self._error: BaseException | None = None

    def open(self) -> None:
        self._session.connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._closed)
        self._steps = self._script(channel)
        self._advance(None)

    def _advance(self, answer: Any) -> None:
        try:
            step = self._steps.send(answer)
            step(callback=self._advance)
        except StopIteration as stop:
            self._result = stop.value
            self._channel.close()
        except Exception as error:
            self._error = error
            if self._channel.is_open:
                self._channel.close()

    def _closed(self, _channel: Any, reason: BaseException) -> None:
        error = self._error
        if error is None and isinstance(reason, pika.exceptions.ChannelClosedByClient):
            if not self._promise.done():
                self._promise.set_result(self._result)
            return
        reject(self._promise, explain(error or reason, self._session.where))


def reject(promise: Future[Any], error: BaseException) -> None:
    """Fail a promise that may be settled already."""
    if not promise.done():
        with suppress(Exception):
            promise.set_exception(error)


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _abandon_all() -> None:
    for session in list(_sessions):
        session.abandon()
    _sessions.clear()


os.register_at_fork(after_in_child=_abandon_all)

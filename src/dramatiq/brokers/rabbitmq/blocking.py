"""A connection and a channel of pika's own blocking kind for each thread that asks for one.

Part of 2.x's contract, which scripts and plugins use to talk to the server directly. This
library itself does not.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pika  # type: ignore[import-untyped]

from .failures import explain_opening
from .parameters import as_list, describe

__all__ = ["BlockingConnections"]


class BlockingConnections:
    """Adds `connection` and `channel` to a broker. Each thread has its own.

    Attributes:
        connections: All connections opened this way.
        channels: All channels opened this way.
        state: What this thread has.
    """

    parameters: Any
    confirm_delivery: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Any] = set()
        self.channels: set[Any] = set()
        self.state = threading.local()

    @property
    def connection(self) -> Any:
        """This thread's ``pika.BlockingConnection``, opened when it is asked for."""
        connection = getattr(self.state, "connection", None)
        if connection is None:
            parameters = as_list(self.parameters)
            try:
                connection = pika.BlockingConnection(parameters)
            except (pika.exceptions.AMQPError, OSError) as error:
                raise explain_opening([(describe(parameters[-1]), error)]) from error
            self.state.connection = connection
            self.connections.add(connection)
        return connection

    @connection.deleter
    def connection(self) -> None:
        del self.channel
        self._drop("connection", self.connections)

    @property
    def channel(self) -> Any:
        """A channel on `connection`, in confirm mode if `confirm_delivery` says so."""
        channel = getattr(self.state, "channel", None)
        if channel is None:
            channel = self.connection.channel()
            if self.confirm_delivery:
                channel.confirm_delivery()
            self.state.channel = channel
            self.channels.add(channel)
        return channel

    @channel.deleter
    def channel(self) -> None:
        self._drop("channel", self.channels)

    def _drop(self, name: str, opened: set[Any]) -> None:
        thing = self.state.__dict__.pop(name, None)
        if thing is not None:
            opened.discard(thing)
            _close(thing)

    def close_blocking(self) -> None:
        """Close all of them, whichever thread they belong to."""
        for opened in (self.channels, self.connections):
            while opened:
                _close(opened.pop())
        self.state = threading.local()


def _close(thing: Any) -> None:
    if thing.is_open:
        with suppress(pika.exceptions.AMQPError, OSError):
            thing.close()

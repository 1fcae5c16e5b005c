"""Where the servers are: what a broker was given, as pika's connection parameters."""

from __future__ import annotations

import copy
import socket
from typing import Any

import pika  # type: ignore[import-untyped]

__all__ = ["as_list", "describe", "make_parameters", "prepare"]

#: Seconds one server may take to let us in, unless its parameters say less.
CONNECT_TIMEOUT_S = 5.0
#: By which the kernel notices within about 12 seconds that the other side is gone without a word,
#: unless the parameters say otherwise. Heartbeats would take a multiple of their interval, and
#: with a short one the server would give up a worker whose interpreter is held for as long.
TCP_OPTIONS = {
    "TCP_KEEPIDLE": 6,  # seconds of silence before it asks,
    "TCP_KEEPINTVL": 2,  # seconds between two questions,
    "TCP_KEEPCNT": 3,  # how many remain unanswered;
    "TCP_USER_TIMEOUT": 12_000,  # milliseconds that what was sent may take to be acknowledged
}


def make_parameters(
    url: str | list[str] | None,
    parameters: list[dict[str, Any]] | None,
    options: dict[str, Any],
) -> pika.connection.Parameters | list[pika.connection.Parameters]:
    """Return pika's parameters for what a broker's constructor was given.

    Raises:
        RuntimeError: If more than one of the three was given.
    """
    if url is not None and (parameters is not None or options):
        raise RuntimeError("Give RabbitmqBroker a url or connection parameters, not both.")
    if parameters is not None and options:
        raise RuntimeError("Give RabbitmqBroker either parameters or single keywords, not both.")
    if url is not None:
        urls = url if isinstance(url, list) else url.split(";")
        targets = [pika.URLParameters(each.strip()) for each in urls]
        return targets if isinstance(url, list) or len(targets) > 1 else targets[0]
    if parameters is not None:
        return [pika.ConnectionParameters(**each) for each in parameters]
    return pika.ConnectionParameters(**options)


def as_list(parameters: Any) -> list[pika.connection.Parameters]:
    """Return parameters, of which there may be one or several, in the order to try them."""
    return list(parameters) if isinstance(parameters, (list, tuple)) else [parameters]


def prepare(parameters: pika.connection.Parameters) -> pika.connection.Parameters:
    """Return a copy with which a single attempt takes seconds at most.

    Whoever connects decides how often to try; pika would do so in silence.
    """
    prepared = copy.copy(parameters)
    prepared.connection_attempts = 1
    prepared.socket_timeout = min(prepared.socket_timeout or CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S)
    prepared.stack_timeout = min(prepared.stack_timeout or CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S)
    if prepared.tcp_options is None:
        known = {name: value for name, value in TCP_OPTIONS.items() if hasattr(socket, name)}
        prepared.tcp_options = known or None
    return prepared


def describe(parameters: pika.connection.Parameters) -> str:
    """Return a server's name for people to read, without the password."""
    host = f"[{parameters.host}]" if ":" in parameters.host else parameters.host
    place = f"{host}:{parameters.port}"
    return place if parameters.virtual_host == "/" else f"{place}/{parameters.virtual_host}"

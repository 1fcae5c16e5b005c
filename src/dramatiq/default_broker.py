"""Which broker an application gets that did not choose one."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from .logging import get_logger

if TYPE_CHECKING:
    from .broker import Broker

__all__ = ["URL_VARIABLE", "choose_broker"]

#: The environment variable that names the broker's URL.
URL_VARIABLE = "DRAMATIQ_BROKER_URL"

#: Module and class of the broker for each URL scheme.
_BY_SCHEME = {
    "stub": ("dramatiq.brokers.stub", "StubBroker"),
    "sqlite": ("dramatiq.brokers.sqlite", "SQLiteBroker"),
    "redis": ("dramatiq.brokers.redis", "RedisBroker"),
    "rediss": ("dramatiq.brokers.redis", "RedisBroker"),
    "unix": ("dramatiq.brokers.redis", "RedisBroker"),
    "amqp": ("dramatiq.brokers.rabbitmq", "RabbitmqBroker"),
    "amqps": ("dramatiq.brokers.rabbitmq", "RabbitmqBroker"),
    "postgresql": ("dramatiq.brokers.postgres", "PostgresBroker"),
    "postgres": ("dramatiq.brokers.postgres", "PostgresBroker"),
}
#: The client library and the scheme of brokers that are chosen where the library is installed and
#: nothing else was said, as in 2.x. The first that is there wins.
_BY_CLIENT = (("pika", "amqp"), ("redis", "redis"))
#: What such a broker is made with, as in 2.x; seconds.
_CLIENT_OPTIONS: dict[str, dict[str, Any]] = {
    "amqp": {
        "host": "127.0.0.1",
        "port": 5672,
        "heartbeat": 5,
        "connection_attempts": 5,
        "blocked_connection_timeout": 30,
    }
}


def choose_broker() -> Broker:
    """Make the broker that the environment asks for; without any wish, what can be had.

    That is a broker on this machine whose client library is installed, else the embedded one.

    Raises:
        ValueError: If ``DRAMATIQ_BROKER_URL`` has a scheme that no broker serves.
    """
    logger = get_logger("dramatiq.broker")
    url = os.environ.get(URL_VARIABLE)
    if url:
        broker = _from_url(url)
        broker.chosen_because = f"{URL_VARIABLE} is set"
        logger.info("Using %s because %s is set.", type(broker).__name__, URL_VARIABLE)
        return broker
    for library, scheme in _BY_CLIENT:
        if importlib.util.find_spec(library) is not None:
            broker = _make(_BY_SCHEME[scheme], **_CLIENT_OPTIONS.get(scheme, {}))
            broker.chosen_because = f"none was set and the package {library!r} is installed"
            logger.info(
                "No broker was set: using %s because the package %r is installed. Choose another "
                "with dramatiq.set_broker() or %s.",
                getattr(broker, "display_url", type(broker).__name__),
                library,
                URL_VARIABLE,
            )
            return broker
    broker = _make(_BY_SCHEME["sqlite"])
    broker.chosen_because = "none was set and no client library of another broker is installed"
    logger.info(
        "No broker was set: using the embedded SQLite broker at %s. Choose another with "
        "dramatiq.set_broker() or %s.",
        getattr(broker, "path", "dramatiq.db"),
        URL_VARIABLE,
    )
    return broker


def _from_url(url: str) -> Broker:
    scheme = url.partition("://")[0]
    if scheme not in _BY_SCHEME:
        raise ValueError(
            f"{URL_VARIABLE} starts with {scheme!r}, which no broker serves. "
            f"Known: {', '.join(f'{known}://' for known in _BY_SCHEME)}."
        )
    if scheme == "stub":
        return _make(_BY_SCHEME[scheme])
    return _make(_BY_SCHEME[scheme], url=url)


def _make(location: tuple[str, str], **options: Any) -> Broker:
    module_name, class_name = location
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{class_name} needs an extra ({error}): "
            f"pip install 'dramatiq[{module_name.rpartition('.')[2]}]'",
            name=error.name,
        ) from error
    broker: Broker = getattr(module, class_name)(**options)
    return broker

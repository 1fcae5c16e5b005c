"""What type checkers know of middleware, encoders, results and rate limits. Nothing is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import dramatiq
from dramatiq import Actor, Broker, Encoder, Message, MessageProxy, Middleware
from dramatiq.middleware import CurrentMessage, Retries, SkipMessage
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import StubBackend as LimitsBackend
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

if TYPE_CHECKING:
    from dramatiq.brokers.stub import StubBroker


class Complete(Middleware):
    """Overrides hooks as their signatures say."""

    @property
    def actor_options(self) -> set[str]:
        return {"complete"}

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        message.options["seen"] = True

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        assert_type(actor.actor_name, str)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if message.failed:
            raise SkipMessage

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        assert_type(exception, BaseException | None)


class Wrong(Middleware):
    """Overrides a hook with other arguments."""

    def before_ack(self, broker: Broker) -> None:  # type: ignore[override]
        pass


class ReversedEncoder(Encoder):
    def encode(self, data: dict[str, Any]) -> bytes:
        return dramatiq.JSONEncoder().encode(data)[::-1]

    def decode(self, data: bytes) -> dict[str, Any]:
        return dramatiq.JSONEncoder().decode(data[::-1])


def brokers(broker: StubBroker) -> None:
    broker.add_middleware(Results(backend=StubBackend(encoder=ReversedEncoder())))
    broker.add_middleware(Complete(), before=Retries)
    assert_type(broker.get_actor("name"), Actor[Any, Any])
    assert_type(broker.get_declared_queues(), set[str])
    assert_type(broker.dead_letters, list[MessageProxy])
    assert_type(dramatiq.get_broker(), Broker)
    broker.join("default", timeout=1, fail_fast=True)
    Retries(max_retries="many")  # type: ignore[arg-type]


def current() -> None:
    assert_type(CurrentMessage.get_current_message(), MessageProxy | None)


def limits() -> None:
    with ConcurrentRateLimiter(LimitsBackend(), "key", limit=1).acquire() as acquired:
        assert_type(acquired, bool)

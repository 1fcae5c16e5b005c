"""The hooks a middleware may implement, and the errors it may raise in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

    from ..actor import Actor
    from ..broker import Broker, MessageProxy
    from ..message import Message
    from ..worker import Worker

__all__ = ["Middleware", "MiddlewareError", "SkipMessage"]


class MiddlewareError(Exception):
    """Raise it in a ``before_…`` hook to stop what was about to happen."""


class SkipMessage(MiddlewareError):
    """Raise it before or inside an actor to skip the message.

    The message is acknowledged, or dead-lettered if it was marked failed.
    """


class Middleware:
    """Base class of middleware; every hook does nothing until it is overridden.

    ``before_…`` hooks run in the order of the broker's middleware list, ``after_…`` hooks in
    reverse. Errors in hooks are logged and do not stop a message, except that a `MiddlewareError`
    in a ``before_…`` hook goes on to whoever started the operation.

    The hooks of one message run in one thread, in one context, with the same proxy: attributes
    set on it before processing are there after it.
    """

    #: Whether `before_process_message`, `after_process_message` and `after_skip_message` may run
    #: on an event loop's thread: they never block and keep no state per thread. Async actors run
    #: on loop slots only while this holds for every middleware that overrides one of the three.
    is_loop_safe: bool = False

    @property
    def actor_options(self) -> set[str]:
        """Names of the options this middleware adds to actors; read when it is added."""
        return set()

    @property
    def forks(self) -> list[Callable[[], int]]:
        """Top-level functions the command line runs in processes of their own."""
        return []

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        """Run before an actor's queue is declared and the actor registered."""

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        """Run after an actor was registered; also for earlier actors when added late."""

    def before_declare_queue(self, broker: Broker, queue_name: str) -> None:
        """Run before a queue is declared for the first time."""

    def after_declare_queue(self, broker: Broker, queue_name: str) -> None:
        """Run after a queue was declared, which need not mean created on a server."""

    def after_declare_delay_queue(self, broker: Broker, queue_name: str) -> None:
        """Run after a delay queue was declared, by brokers that have such queues."""

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Run before a message is encoded and stored; changes to its options are stored too.

        ``delay`` is in milliseconds. A `MiddlewareError` raised here reaches the sender, and
        nothing is enqueued.
        """

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Run after the broker accepted a message."""

    def before_delay_message(self, broker: Broker, message: MessageProxy) -> None:
        """Run before a worker keeps a message until its eta, with brokers that leave it to it."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Run before the actor; may raise `SkipMessage`."""

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Run after the actor returned (``result`` is given) or failed (``exception`` is)."""

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Run in place of `after_process_message` when the message was skipped."""

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Run before a message is acknowledged."""

    def after_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Run after the broker confirmed an acknowledgement."""

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Run before a message is dead-lettered."""

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Run after the broker confirmed that a message is dead-lettered."""

    def after_process_boot(self, broker: Broker) -> None:
        """Run once per worker process, after the broker was imported."""

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Run before a worker starts its threads."""

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Run after a worker started its threads."""

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Run before a worker's threads are told to stop."""

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Run after a worker's threads and consumers have stopped."""

    def after_consumer_thread_boot(self, broker: Broker, thread: Thread) -> None:
        """Run in a consumer thread before its loop."""

    def before_consumer_thread_shutdown(self, broker: Broker, thread: Thread) -> None:
        """Run in a consumer thread after its loop."""

    def after_worker_thread_boot(self, broker: Broker, thread: Thread) -> None:
        """Run in a worker thread before its loop."""

    def before_worker_thread_shutdown(self, broker: Broker, thread: Thread) -> None:
        """Run in a worker thread after its loop."""

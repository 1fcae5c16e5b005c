"""Interrupt long-running actors that asked for it when their worker shuts down."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ..logging import get_logger
from ..threading import (
    Interrupt,
    InterruptTarget,
    current_interrupt_target,
    current_platform,
    unsupported_platform,
)
from .middleware import Middleware

if TYPE_CHECKING:
    import logging
    from collections.abc import Hashable

    from ..actor import Actor
    from ..broker import Broker, MessageProxy
    from ..message import Message
    from ..worker import Worker

__all__ = ["Shutdown", "ShutdownNotifications"]


class Shutdown(Interrupt):
    """Raised in actors that asked to be told when their worker shuts down."""


class ShutdownManager:
    """Knows what the messages that want a notification run in."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.targets: dict[Hashable, InterruptTarget] = {}

    def add(self, target: InterruptTarget) -> None:
        """Notify ``target`` at shutdown."""
        self.targets[target.key] = target

    def remove(self, target: InterruptTarget) -> None:
        """Do not notify ``target`` any more."""
        self.targets.pop(target.key, None)

    def shutdown(self) -> None:
        """Notify all."""
        self.logger.debug("Sending shutdown notification to worker threads...")
        for target in list(self.targets.values()):
            self.logger.info(
                "Worker shutdown notification. Raising exception in %s.", target.description
            )
            target.interrupt(Shutdown)


class ShutdownNotifications(Middleware):
    """Raises `Shutdown` in actors that are still running when their worker stops.

    Args:
        notify_shutdown: Whether to do so by default; actors and messages may have an option of
            that name.
    """

    is_loop_safe = True

    def __init__(self, notify_shutdown: bool = False) -> None:
        self.logger = get_logger(__name__, type(self))
        self.notify_shutdown = notify_shutdown
        self.manager = ShutdownManager(self.logger)

    @property
    def actor_options(self) -> set[str]:
        """The option ``notify_shutdown``."""
        return {"notify_shutdown"}

    def should_notify(self, actor: Actor[Any, Any], message: MessageProxy | Message[Any]) -> bool:
        """Tell whether the message wants to be notified: its option, its actor's, or ours."""
        notify = message.options.get("notify_shutdown")
        if notify is None:
            notify = actor.options.get("notify_shutdown")
        if notify is None:
            notify = self.notify_shutdown
        return bool(notify)

    def after_process_boot(self, broker: Broker) -> None:
        """Warn where threads cannot be interrupted."""
        unsupported = unsupported_platform(current_platform)
        if unsupported is not None:
            warnings.warn(
                "ShutdownNotifications cannot kill threads "
                f"on your current platform ({unsupported!r}).",
                RuntimeWarning,
                stacklevel=2,
            )

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Notify all that asked for it."""
        self.manager.shutdown()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Remember what the message runs in."""
        actor = broker.get_actor(message.actor_name)
        if self.should_notify(actor, message):
            self.manager.add(current_interrupt_target())

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Forget what the message ran in."""
        if self.manager.targets:
            self.manager.remove(current_interrupt_target())

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Forget what the message ran in."""
        self.after_process_message(broker, message)

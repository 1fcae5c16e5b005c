"""The middleware: what each hook counts."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...logging import get_logger
from ..middleware import Middleware
from . import settings
from .metrics import Metrics
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...broker import Broker, MessageProxy
    from ...message import Message
    from ...worker import Worker
    from .metrics import Series
    from .sampling import Sampler

__all__ = ["Prometheus"]

#: The option that says when a delayed or retried message could run, in UNIX epoch milliseconds.
#: What its eta says is gone when it runs. Others could run when they were made.
DUE_OPTION = "due_timestamp"


class Prometheus(Middleware):
    """Counts and times messages, and has the figures served to Prometheus.

    Under the command line, one more process answers on the port ``dramatiq_prom_port``. The
    environment variables ``dramatiq_prom_host``, ``dramatiq_prom_port`` and ``dramatiq_prom_db``
    are read when the module is imported.
    """

    is_loop_safe = True

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))
        self._metrics: Metrics | None = None
        self._store: Store | None = None
        self._sampler: Sampler | None = None
        self._worker: Worker | None = None
        #: The parked messages' series. Changed by consumer threads.
        self._parked: dict[str, Series] = {}
        #: Those that the worker did not keep when it was last looked at. The sampler's.
        self._missing: set[str] = set()

    @property
    def forks(self) -> list[Callable[[], int]]:
        """The exposition server."""
        from . import _run_exposition_server  # this module is imported by it

        return [_run_exposition_server]

    # -- the process

    def after_process_boot(self, broker: Broker) -> None:
        """Open the files of this process."""
        settings.announce_folder()
        try:
            self._store = Store.of_this_process(settings.DB_PATH)
            self._store.tidy()
            self._open()
        except ImportError as error:
            self.logger.error(  # noqa: TRY400 (where it was imported tells nothing)
                "No metrics: %s. Install what they need: pip install 'dramatiq[prometheus]'", error
            )
        except OSError as error:
            self.logger.error(  # noqa: TRY400 (the text says all)
                "No metrics: %s cannot be written to: %s. Set dramatiq_prom_db to a folder that "
                "can.",
                settings.DB_PATH,
                error,
            )

    def _open(self) -> None:
        if self._store is not None:
            self._store.name_values()
            self._metrics = Metrics(self._store)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Count nothing in a process that the application forks: the files are its parent's."""
        self._metrics = None

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Open the files again, for another worker in the same process."""
        self._worker = worker
        if self._metrics is None:
            self._open()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start to look at what the worker holds."""
        if self._metrics is not None:
            from .sampling import Sampler  # senders do without

            self._sampler = Sampler(worker, self._metrics, self._forget_unparked)
            self._sampler.start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Expect no more of this process: it finishes what it runs."""
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.stop()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Take back the gauges of this process."""
        self._metrics = self._worker = None
        self._parked.clear()
        if self._store is not None:
            self._store.mark_dead()

    # -- messages

    def _series(self, message: Message[Any] | MessageProxy) -> Series | None:
        metrics = self._metrics
        if metrics is None:
            return None
        return metrics.series(message.queue_name, message.actor_name)

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Note when the message can run, if that is not now."""
        # Without a delay it may be a delayed one that has come due, wherever it was kept.
        if delay is not None:
            message.options[DUE_OPTION] = current_millis() + delay

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Count retries; a delayed message that comes due is none, and is kept no more."""
        if delay is None:
            self._unpark(message.message_id)
        options = message.options
        if "retries" not in options or (delay is None and DUE_OPTION in options):
            return
        series = self._series(message)
        if series is not None:
            series.count_retry()

    def before_delay_message(self, broker: Broker, message: MessageProxy) -> None:
        """Note that this worker keeps the message until it is due."""
        series = self._series(message)
        if series is not None and not self._is_kept_by_broker(message):
            self._parked[message.message_id] = series
            series.park(message.message_id)

    def _is_kept_by_broker(self, message: MessageProxy) -> bool:
        """Tell whether the message is about to be parked in the broker, which counts it itself."""
        thread = None if self._worker is None else self._worker.consumers.get(message.queue_name)
        consumer = None if thread is None else thread.consumer
        return consumer is not None and not consumer.hands_out

    def _unpark(self, message_id: str) -> None:
        series = self._parked.pop(message_id, None) if self._parked else None
        if series is not None:
            series.unpark(message_id)

    def _forget_unparked(self, parked: Callable[[], set[str]]) -> None:
        """Drop from the gauge what the worker does not keep: its connection was lost."""
        noted = set(self._parked)
        missing = noted - parked() if noted else noted
        # Seen twice: one that is being parked is noted already.
        for message_id in missing & self._missing:
            self._unpark(message_id)
        self._missing = missing

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Note the start."""
        series = self._series(message)
        if series is None:
            return
        self._unpark(message.message_id)
        due_ms = message.options.get(DUE_OPTION)
        if not isinstance(due_ms, int):
            due_ms = message.message_timestamp
        waited_s = max(0.0, time.time() - due_ms / 1000)
        series.begin(id(message), time.monotonic(), waited_s)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Count the message, its failure and how long it ran."""
        series = self._series(message)
        if series is None:
            return
        if not series.end(id(message), time.monotonic()):
            if getattr(message, "_is_measured", False):
                return  # an interrupt had the hooks run twice
            series.count_unstarted()
        with suppress(AttributeError):  # whoever calls a hook with a bare message has it run once
            message._is_measured = True  # type: ignore[attr-defined]  # anything may be set on a proxy
        if exception is not None:
            series.count_error()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Count the message; its start was not noted if a middleware before this one skipped it."""
        self.after_process_message(broker, message)

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Count the reason if the message failed, for then it is done because it was retried."""
        exception = getattr(message, "_exception", None)
        if exception is None or not message.options.get("retries"):
            return
        series = self._series(message)
        if series is not None:
            series.count_reason(type(exception).__name__)

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Count the dead letter."""
        series = self._series(message)
        if series is not None:
            series.count_reject()

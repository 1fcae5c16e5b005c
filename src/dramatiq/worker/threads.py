"""The runner of plain actors: a thread that takes a message, runs it and settles it."""

from __future__ import annotations

from queue import Empty
from threading import Event, Thread
from typing import TYPE_CHECKING

from ..logging import get_logger
from ..middleware import SkipMessage
from ..threading import Interrupt
from . import processing

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..broker import Broker, MessageProxy
    from ..flight_recorder import Record
    from .consumer import ConsumerThread
    from .work_queue import WorkQueue

__all__ = ["WorkerThread"]


class WorkerThread(Thread):
    """Takes messages from the work queue and runs them, one at a time.

    `pause`, `resume` and `stop` may be called from any thread, any number of times.

    Args:
        broker: The broker whose hooks are run.
        consumers: The worker's consumer threads by queue.
        work_queue: Where the messages come from.
        worker_timeout: Milliseconds between two looks at whether to stop while there is no work.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        consumers: dict[str, ConsumerThread],
        work_queue: WorkQueue,
        worker_timeout: int,
    ) -> None:
        super().__init__(daemon=True)
        #: Where to write down what runs, if anybody would read it.
        self.record: Record | None = None
        #: Starts another thread beside this one, and returns what ends that; set by the worker.
        self.start_stand_in: Callable[[], Callable[[], None] | None] = lambda: None
        self.logger = get_logger("dramatiq.worker", type(self))
        self.broker = broker
        self.consumers = consumers
        self.work_queue = work_queue
        self.timeout = worker_timeout / 1000
        self.running = False
        self.paused = False
        self.paused_event = Event()
        self._resumed = Event()
        self._stopping = False

    def run(self) -> None:
        """Run messages until `stop`."""
        self.logger.debug("Running worker thread...")
        self.running = not self._stopping
        self._boot()
        while True:
            # An interrupt that comes too late to hit its actor may hit any line of ours. The
            # inner loop deals with one, this one with another on its heels.
            try:
                self._run_until_stopped()
                break
            except Interrupt:
                continue
        self.broker.emit_before("worker_thread_shutdown", self)
        self.logger.debug("Worker thread stopped.")

    def _boot(self) -> None:
        try:
            self.broker.emit_after("worker_thread_boot", self)
        except BaseException:
            # A sys.exit in a hook is meant for the process, and would end this thread alone.
            self.logger.exception("Unexpected failure in a worker thread; it goes on.")

    def _run_until_stopped(self) -> None:
        while True:
            try:
                while self.running:
                    self._step()
                return  # noqa: TRY300 (an interrupt may hit the line before, too)
            except Interrupt:
                self.logger.debug("An interrupt arrived between two messages.")
            except BaseException:
                self.logger.exception("Unexpected failure in a worker thread; it goes on.")

    def _step(self) -> None:
        if self.paused:
            self.paused_event.set()
            self._resumed.wait(self.timeout)
            return
        try:
            _, message = self.work_queue.take(self.timeout)
        except Empty:
            return
        try:
            self.process_message(message)
        except Interrupt:
            # It hit between two of our own steps. What was not handed over runs again.
            if not message._is_handed_over and (consumer := self._consumer_of(message)):
                consumer.requeue_messages([message])
            raise
        except BaseException as exception:
            # Ours raises nothing: it is a tool's that wraps it.
            if not message._is_handed_over:
                self._run_hooks_after_failure(message, exception)
                self._post_process(message)
            raise
        finally:
            self.work_queue.task_done()

    def process_message(self, message: MessageProxy) -> None:
        """Run one message and hand over what became of it. Tracing tools wrap this method."""
        record = self.record
        if record is not None:
            envelope = message._message
            record.begin(message._lease, envelope.actor_name, envelope.queue_name)
            message._record = record
        try:
            self._run_message(message)
        except BaseException as exception:
            # An interrupt hit one of our own steps around the actor, or a hook raised something
            # like it. The hooks may run twice, the message is not lost.
            self._run_hooks_after_failure(message, exception)
        if record is not None:
            record.end()
        self._post_process(message)
        message.clear_exception()

    def _run_message(self, message: MessageProxy) -> None:
        broker = self.broker
        try:
            actor = processing.before(broker, message)
            result = None
            if actor is not None:
                result = actor(*message._message.args, **message._message.kwargs)
            processing.after_success(broker, message, result)
        except SkipMessage as skip:
            processing.after_skip(broker, message, skip)
        except BaseException as exception:
            processing.after_failure(broker, message, exception)

    def _run_hooks_after_failure(self, message: MessageProxy, exception: BaseException) -> None:
        try:
            processing.after_failure(self.broker, message, exception)
        except BaseException:
            self.logger.warning("Message %s was interrupted twice.", message, exc_info=True)

    def _post_process(self, message: MessageProxy) -> None:
        consumer = self._consumer_of(message)
        while consumer is not None:
            try:
                consumer.post_process_message(message)
            except Interrupt:
                # It was meant for the actor, which is done; only settling is left.
                if not message._is_handed_over:
                    continue
            return

    def _consumer_of(self, message: MessageProxy) -> ConsumerThread | None:
        consumer: ConsumerThread | None = message._origin or self.consumers.get(message.queue_name)
        if consumer is None:
            self.logger.error(
                "Message %s came from queue %r, which has no consumer in this worker; it is not "
                "settled and its broker will deliver it again.",
                message,
                message.queue_name,
            )
        return consumer

    def lend_place(self) -> Callable[[], None] | None:
        """Have another thread run messages while this one waits for what they come to.

        Returns:
            What is to be called when the waiting is over, if anything.
        """
        return self.start_stand_in()

    def pause(self) -> None:
        """Take no more messages; `paused_event` is set once the current one is finished."""
        self._resumed.clear()
        self.paused_event.clear()
        self.paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self.paused = False
        self.paused_event.clear()
        self._resumed.set()

    def stop(self) -> None:
        """End after the current message."""
        self.logger.debug("Stopping worker thread...")
        self._stopping = True
        self.running = False
        self._resumed.set()

"""The thread that owns the broker's consumer of one queue.

It fetches messages, hands them to the worker, and carries out what became of them. Two kinds of
consumer are served. An *owned* one is touched by this thread alone: others leave settlements in
its inbox, and whatever waits there is settled together with the next fetch. Any other consumer,
every one of 2.x among them, is settled at once by the thread that ran the message.

Messages with an eta that the broker leaves to us are parked here until they are due.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING

from .. import worker as settings
from ..delivery import Outcome, Settlement
from ..errors import ActorNotFound, BrokerConnectionError
from ..logging import get_logger
from . import processing
from .advancing import Advancing
from .outage import Outage
from .parking import Parking
from .prefetch import Prefetch, SlowStart
from .recording import ConsumerProgress
from .settling import Confirmation, Inbox, announce, conclude, wants_confirmation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from queue import PriorityQueue

    from ..broker import Broker, Consumer, MessageProxy
    from ..flight_recorder import Progress
    from .work_queue import WorkQueue, _WorkQueueItem

__all__ = ["ConsumerThread"]


class ConsumerThread(Thread):
    """Consumes one queue for a worker.

    `post_process_message`, `submit`, `pause`, `resume`, `stop_fetching` and `stop` may be called
    from any thread.

    Args:
        broker: The broker to consume from.
        queue_name: The queue.
        prefetch: How many messages to hold at a time where the broker's consumer needs a number.
        work_queue: Where messages go that are ready to run.
        worker_timeout: Milliseconds a fetch may wait.
        follow_pace: Whether an owned consumer may follow the pace of the work instead.
        free_slots: Tells how many messages could start at once, for owned consumers.
        dispatch: Takes messages that are ready to run; by default they go to ``work_queue``.
        progress: Where to show that this thread moves, if anybody would look.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        queue_name: str,
        prefetch: int,
        work_queue: WorkQueue,
        worker_timeout: int,
        follow_pace: bool = False,
        free_slots: Callable[[ConsumerThread], int] | None = None,
        dispatch: Callable[[list[tuple[float, MessageProxy]]], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self.logger = get_logger("dramatiq.worker", f"ConsumerThread({queue_name})")
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.work_queue = work_queue
        self.worker_timeout = worker_timeout
        self.consumer: Consumer | None = None
        self.running = False
        self.paused = False
        self.paused_event = Event()
        #: The worker's, which replaces it.
        self.outage = Outage()
        #: Whether the broker has handed over, or could have, since the last error.
        self.is_consuming = False
        #: What this thread got so far, and how often it asked and got nothing: to notice idleness.
        self.received = 0
        self.empty_fetches = 0
        #: When this thread last asked the broker for messages and got an answer, or had no room for
        #: any (monotonic seconds). It stands still while there is no broker.
        self.fetched_at = time.monotonic()
        self._pace = Prefetch(None if follow_pace else prefetch)
        #: For queues whose messages run on threads and in slots.
        self.slow_start = SlowStart()
        self._free_slots = free_slots or (lambda _: prefetch)
        self._dispatch = dispatch or work_queue.add
        self._progress = ConsumerProgress(progress, worker_timeout)
        self._parking = Parking(broker, self.logger)
        self._inbox = Inbox(self._wake)
        #: Settlements whose broker call failed; repeated first. This thread only.
        self._unsettled: list[Settlement] = []
        #: Messages handed out and not settled. This thread only.
        self._held = 0
        self._woken = Event()
        self._stopping = Event()
        self._advancing = Advancing(broker, self.submit, self._stopping)
        self._fetching = True
        self._is_connected = False
        self._is_starving = False

    @property
    def delay_queue(self) -> PriorityQueue[_WorkQueueItem]:
        """The messages that are parked here until they are due."""
        return self._parking.queue

    # -- life

    def run(self) -> None:
        """Consume until `stop`; reconnect after every error."""
        self.logger.debug("Running consumer thread...")
        self.running = not self._stopping.is_set()
        is_booted = survives = False
        while self.running:
            is_connection_error = False
            try:
                if not is_booted:
                    is_booted = True
                    self.broker.emit_after("consumer_thread_boot", self)
                if self.consumer is None or not survives:
                    self.consumer = self._connect()
                self._consume(self.consumer)
            except BrokerConnectionError as error:
                delay_s = settings.CONSUMER_RESTART_DELAY_SECS
                self.outage.begin(self.logger, self.queue_name, error, delay_s)
                is_connection_error = True
            except BaseException:
                # Nothing may end this thread, no sys.exit of a hook and no late interrupt: its
                # queue would be left alone by a process that looks healthy.
                self.logger.critical("Consumer encountered an unexpected error.", exc_info=True)
            if self.running:
                survives = self._survive(is_connection_error)
                delay_s = settings.CONSUMER_RESTART_DELAY_SECS
                level = logging.DEBUG if is_connection_error else logging.INFO
                self.logger.log(level, "Restarting consumer in %0.2f seconds.", delay_s)
                self._stopping.wait(delay_s)
        self._advancing.finish()
        self.broker.emit_before("consumer_thread_shutdown", self)
        self.logger.debug("Consumer thread stopped.")

    def _connect(self) -> Consumer:
        self._held = 0
        return self.broker.consume(
            queue_name=self.queue_name, prefetch=self.prefetch, timeout=self.worker_timeout
        )

    def _survive(self, is_connection_error: bool) -> bool:
        """Tell, after an error, whether the consumer is still good; close it if it is not."""
        try:
            if self.consumer is not None and self.consumer.recover():
                return True
        except BaseException:
            self.logger.critical("A consumer that failed cannot go on.", exc_info=True)
        if is_connection_error:
            # The broker takes back what it handed out over the lost connection.
            self._parking.take_all()
        self.close()
        return False

    def pause(self) -> None:
        """Fetch no more; `paused_event` is set once that holds."""
        self.paused_event.clear()
        self.paused = True
        # While there is no connection nothing is fetched; once there is, the thread looks first.
        if not self._is_connected:
            self.paused_event.set()
        self._wake()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.paused = False
        self.paused_event.clear()
        self._wake()

    def stop_fetching(self) -> None:
        """Fetch no more, but go on settling: the first half of a graceful stop."""
        self._fetching = False
        self._wake()

    def stop(self) -> None:
        """End after settling what is waiting."""
        self.logger.debug("Stopping consumer thread...")
        self.running = False
        self._stopping.set()
        self._wake()

    def close(self) -> None:
        """Give back what is parked here and close the consumer. Not while the thread fetches."""
        try:
            parked = self._parking.take_all()
            if parked and not self.is_owned:
                # An owned one gives back by itself what it handed out.
                self.requeue_messages(parked)
            if self.consumer is not None:
                self.consumer.close()
        except BrokerConnectionError:
            self.logger.debug("Closing a consumer whose connection is gone.", exc_info=True)
        except Exception:
            self.logger.exception("Unexpected failure while closing a consumer.")

    def _wake(self) -> None:
        self._woken.set()
        if self.consumer is not None:
            self.consumer.wake()

    # -- consuming

    def _consume(self, consumer: Consumer) -> None:
        step = self._step_owned if consumer.is_owned else self._step
        self._is_connected = True
        if not consumer.is_owned:
            # Its first fetch may wait for long. An owned one is asked without waiting at first.
            self.is_consuming = True
            self.outage.end(self.logger, self.queue_name)
        try:
            while self.running:
                if self.paused:
                    self.paused_event.set()
                self._progress.show(consumer)
                step(consumer)
                self.fetched_at = time.monotonic()
                if not self.is_consuming:
                    self.is_consuming = True
                    self.outage.end(self.logger, self.queue_name)
            if consumer.is_owned:
                self._flush(consumer)
        finally:
            self._progress.rest()
            self._is_connected = self.is_consuming = False
            if self.paused:
                self.paused_event.set()

    def _step(self, consumer: Consumer) -> None:
        if self.paused or not self._fetching:
            self._wait(self._parking.wait_ms(self.worker_timeout))
        else:
            timeout_ms = self._parking.wait_ms(self.worker_timeout)
            messages = consumer.fetch(self.prefetch, timeout_ms)
            self.empty_fetches += not messages
            self._receive(messages)
        self.handle_delayed_messages()

    def _step_owned(self, consumer: Consumer) -> None:
        self.handle_delayed_messages()
        settlements = self._collect(consumer)
        self._pace.observe(len(settlements), time.monotonic())
        wanted = self._demand(len(settlements))
        timeout_ms = self._parking.wait_ms(self.worker_timeout if self.is_consuming else 0)
        may_wait = not settlements and self._inbox.about_to_wait()
        try:
            if settlements or (wanted and may_wait):
                confirmed, messages = consumer.exchange(settlements, wanted, timeout_ms)
            elif may_wait:
                self._wait(timeout_ms)
                return
            else:
                return
        finally:
            self._inbox.done_waiting()
        self._confirm(settlements, confirmed)
        if wanted and not messages:
            self.empty_fetches += 1
            self.slow_start.restart()
        self._receive(messages)

    def _wait(self, timeout_ms: float) -> None:
        self._woken.wait(timeout_ms / 1000)
        self._woken.clear()

    def _demand(self, settling: int) -> int:
        if self.paused or not self._fetching:
            return 0
        if self.consumer is not None and not self.consumer.hands_out:
            return 1
        # Set before looking, so that whoever frees a slot afterwards sees it.
        self._is_starving = True
        wanted = self._pace.demand(
            held=self._held - settling,
            free_slots=self._free_slots(self),
            others_waiting=not self.work_queue.empty(),
        )
        self._is_starving = not wanted
        return wanted

    def feed(self) -> None:
        """Tell that a slot got free, in case this thread waits for one. Any thread."""
        if self._is_starving:
            self._is_starving = False
            self._wake()

    def _receive(self, messages: list[MessageProxy]) -> None:
        if not messages:
            return
        self._held += len(messages)
        self.received += len(messages)
        if not self._fetching:
            # They came while we were told to stop: nobody would start them.
            self.requeue_messages(messages)
            return
        ready: list[tuple[float, MessageProxy]] = []
        for number, message in enumerate(messages):
            try:
                priority = self._admit(message)
            except BaseException:
                # A hook's error must not strand this message and its neighbours.
                self.requeue_messages(messages[number:])
                self._dispatch(ready)
                raise
            if priority is not None:
                ready.append((priority, message))
        self._dispatch(ready)

    def handle_message(self, message: MessageProxy) -> None:
        """Park a message that has an eta, queue one that can run, reject an unknown one."""
        priority = self._admit(message)
        if priority is not None:
            self._dispatch([(priority, message)])

    def _admit(self, message: MessageProxy) -> float | None:
        """Return the priority of a message that is ready to run; None if it was dealt with."""
        message._origin = self
        envelope = message._message
        if "eta" in envelope.options and self._parking.park(message):
            return None
        try:
            return self.broker.get_actor(envelope.actor_name).priority
        except ActorNotFound as error:
            processing.reject_unknown(self.broker, message, error)
            self.post_process_message(message)
            return None

    def handle_delayed_messages(self) -> None:
        """Enqueue the parked messages that are due, earliest first, then settle their originals."""
        self._parking.release_due(self._settle_parked)

    def _settle_parked(self, message: MessageProxy) -> None:
        self._progress.show(self.consumer)
        self.post_process_message(message)

    # -- settling

    def post_process_message(self, message: MessageProxy) -> None:
        """Settle a message according to what became of it, with the hooks around that.

        Returns once the broker confirmed, if anybody's hook waits for that. In this thread, which
        could only wait for itself, those hooks run when it gets there.
        """
        settlement = processing.settlement_of(message)
        if not self.is_owned:
            self._settle_now(settlement)
        elif self.announce(settlement):
            if not wants_confirmation(self.broker, settlement):
                self.submit(settlement)
            elif current_thread() is self:
                settlement.on_settled = partial(conclude, self.broker, settlement)
                self.submit(settlement)
            else:
                confirmation = Confirmation(settlement)
                self.submit(settlement)
                if confirmation.wait(self.is_alive):
                    conclude(self.broker, settlement, confirmation.settled)

    @property
    def is_owned(self) -> bool:
        """Whether settlements go through the inbox."""
        return self.consumer is not None and self.consumer.is_owned

    def announce(self, settlement: Settlement) -> bool:
        """Run the hooks before settling; see `settling.announce`."""
        return announce(self.broker, settlement)

    def submit(self, settlement: Settlement) -> None:
        """Have this thread settle a message together with its next fetch."""
        settlement.message._is_handed_over = True
        self._inbox.put(settlement)

    def requeue_messages(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back to the broker, which were not run."""
        if self.is_owned:
            # Together: each batch goes to the front of its queue, and would reverse their order.
            settlements = [Settlement(message, Outcome.REQUEUE) for message in messages]
            for each in settlements:
                each.message._is_handed_over = True
            self._inbox.put(*settlements)
        elif self.consumer is not None:
            self.consumer.requeue(messages)

    def _settle_now(self, settlement: Settlement) -> None:
        """Settle in the calling thread; repeat, hooks included, until the broker is back."""
        while True:
            try:
                if self.announce(settlement):
                    settled = self._settle_through(self._connected_consumer(), settlement)
                    settlement.message._is_handed_over = True
                    conclude(self.broker, settlement, settled)
            except BrokerConnectionError as error:
                delay_s = settings.POST_PROCESS_MESSAGE_RETRY_DELAY_SECS
                self.logger.warning(
                    "Cannot settle message %s: %s. Trying again in %s seconds.",
                    settlement.message,
                    error,
                    delay_s,
                )
                if current_thread() is self:
                    self._progress.rest()
                if self._stopping.wait(delay_s):
                    return
            except Exception:
                self.logger.exception("Unexpected failure while settling %s.", settlement.message)
                return
            else:
                return

    def _connected_consumer(self) -> Consumer:
        if self.consumer is None:
            raise BrokerConnectionError(f"queue {self.queue_name!r} has no consumer yet")
        return self.consumer

    def _settle_through(self, consumer: Consumer, settlement: Settlement) -> bool:
        if settlement.step is not None:
            consumer.keep([settlement])
            self._advancing.do(settlement)
        return consumer.settle([settlement])[0]

    def _collect(self, consumer: Consumer) -> list[Settlement]:
        """Return what is to be settled now: first what could not be settled before."""
        settlements = self._unsettled + self._inbox.drain()
        self._unsettled = settlements
        if any(each.step is not None for each in settlements):
            settlements, held_back = self._advancing.sort_out(consumer, settlements)
            self._unsettled = settlements
            self._advancing.hand_over(held_back)
        return settlements

    def _confirm(self, settlements: list[Settlement], confirmed: list[bool]) -> None:
        self._unsettled = []
        # A replaced consumer's messages are settled too, and were not handed out by this one.
        self._held = max(0, self._held - len(settlements))
        for settlement, settled in zip(settlements, confirmed, strict=True):
            if not settled:
                self.logger.warning(
                    "Message %s was no longer ours when it was settled: another worker may run "
                    "it, or has run it, again.",
                    settlement.message,
                )
            if settlement.on_settled is None:
                settlement.message._follow_ups = None
            else:
                settlement.on_settled(settled)

    def _flush(self, consumer: Consumer) -> None:
        """Settle what is left, at the end."""
        while settlements := self._collect(consumer):
            confirmed, _ = consumer.exchange(settlements, 0, 0)
            self._confirm(settlements, confirmed)
        self._advancing.finish()
        if settlements := self._collect(consumer):
            confirmed, _ = consumer.exchange(settlements, 0, 0)
            self._confirm(settlements, confirmed)

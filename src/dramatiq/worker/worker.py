"""The life of a worker: its consumer threads, its worker threads, its event loop.

Start order: hooks, consumers, threads, hooks. Stop order: hooks, fetching, giving back what was
not started, running, settling, consumers, hooks. The thread that calls a method runs it; the
tables of consumers and threads change under ``_lock``.
"""

from __future__ import annotations

import logging
import time
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from .. import worker as settings
from ..common import dq_name, join_all, q_name
from ..errors import BrokerConnectionError
from ..logging import get_logger
from ..middleware import Middleware
from . import stand_ins
from .consumer import ConsumerThread
from .outage import Outage
from .recording import make_recorder
from .stand_ins import StandIns
from .threads import WorkerThread
from .work_queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..actor import Actor
    from ..broker import Broker, MessageProxy
    from ..flight_recorder import FlightRecorder, Record
    from .loop import LoopRunner
    from .usage import Usage

__all__ = ["Worker"]

#: Most messages a consumer that wants a number may be told to prefetch: RabbitMQ's limit.
MAX_NUMBER = 65_535
#: Seconds after which waiting for threads is looked at again.
POLL_S = 0.05


class Worker:
    """Runs the messages of a broker's queues; at most one per process is intended.

    Args:
        broker: The broker.
        queues: Names of the queues to consume; None means all, those declared later too.
        worker_timeout: Milliseconds a thread waits for work before it looks around.
        worker_threads: How many threads run plain actors.
        async_slots: How many async actors run at a time, without holding a thread while they
            wait. 0 runs them as 2.x does, one per worker thread.
        exclude_queues: Names of queues not to consume, also those declared later.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        queues: Iterable[str] | None = None,
        worker_timeout: int = settings.WORKER_TIMEOUT,
        worker_threads: int = 8,
        async_slots: int = 100,
        exclude_queues: Iterable[str] | None = None,
    ) -> None:
        self.logger = get_logger("dramatiq.worker", type(self))
        self.broker = broker
        self.consumer_whitelist = queues and set(queues)
        self.excluded_queues = frozenset(exclude_queues or ())
        self.consumers: dict[str, ConsumerThread] = {}
        self.worker_threads = worker_threads
        self.worker_timeout = worker_timeout
        self.workers: list[WorkerThread] = []
        self.work_queue = WorkQueue()
        self.work_queue.on_idle = self.feed_consumers
        self.async_slots = async_slots
        self._default_prefetch = min(2 * worker_threads, MAX_NUMBER)
        self.queue_prefetch = settings.QUEUE_PREFETCH or self._default_prefetch
        self.delay_prefetch = settings.DELAY_QUEUE_PREFETCH or min(
            1000 * worker_threads, MAX_NUMBER
        )
        self._lock = Lock()
        self._stand_ins = StandIns(self.workers, self._lock, self._make_worker, self.feed_consumers)
        self._outage = Outage()
        #: Whether to write down what runs even if the broker has no use for that.
        self.is_supervised = False
        self.recorder: FlightRecorder | None = None
        self._loop: LoopRunner | None = None
        self._middleware: _WorkerMiddleware | None = None
        self._is_paused = False

    # -- life

    def start(self) -> None:
        """Start everything and return."""
        self.broker.emit_before("worker_boot", self)
        # Before anything is fetched: it is known from then on where to look for whom to blame.
        self.recorder = make_recorder(
            self.broker,
            self.worker_threads + self.async_slots + stand_ins.RECORDED,
            is_supervised=self.is_supervised,
        )
        first = self.worker_threads + self.async_slots
        self._stand_ins.open(self._records(first, stand_ins.RECORDED))
        middleware = self._middleware = _WorkerMiddleware(self)
        # Not through add_middleware, which would warn of a second worker's.
        self.broker.middleware.append(middleware)
        if any(_is_async(actor) for actor in list(self.broker.actors.values())):
            # Those that run on threads need the event loop too.
            self._loop_runner()
        for queue_name in self.broker.get_declared_queues():
            middleware.after_declare_queue(self.broker, queue_name)
        for queue_name in self.broker.get_declared_delay_queues():
            middleware.after_declare_delay_queue(self.broker, queue_name)
        for _ in range(self.worker_threads):
            self._add_worker()
        # Their first look found no thread to run anything.
        self.feed_consumers()
        self.broker.emit_after("worker_boot", self)

    def pause(self) -> None:
        """Take no new messages, and return when that holds and running ones are finished."""
        self._is_paused = True
        self._stand_ins.pause()
        threads: list[ConsumerThread | WorkerThread] = [*self._consumer_threads(), *self.workers]
        for thread in threads:
            thread.pause()
        if self._loop is not None:
            self._loop.pause()
        self.work_queue.wake(len(self.workers))
        for thread in threads:
            _wait_while_alive(thread, thread.paused_event)
        if self._loop is not None:
            while not self._loop.join_running(1):
                continue

    def resume(self) -> None:
        """Go on after `pause`; returns at once."""
        self._is_paused = False
        self._stand_ins.resume()
        if self._loop is not None:
            self._loop.resume()
        threads: list[ConsumerThread | WorkerThread] = [*self.workers, *self._consumer_threads()]
        for thread in threads:
            thread.resume()

    def stop(self, timeout: int = 600_000) -> None:
        """Finish what is running, give the rest back to the broker, stop everything.

        Args:
            timeout: Milliseconds in all for running messages, and again for the consumers. What
                still runs then is given back too, and may run again elsewhere.
        """
        self.broker.emit_before("worker_shutdown", self)
        self.logger.info("Shutting down...")
        if self.recorder is not None:
            # Whoever loses patience and kills us from here on is not to blame our messages.
            self.recorder.stopping()
        self._detach()
        consumers = self._consumer_threads()
        for consumer in consumers:
            consumer.stop_fetching()
        unstarted = self._stop_starting()
        # At once: what is running may take long, and others could run these meanwhile.
        self._requeue([each for each in unstarted if each._origin.is_owned])
        self._stop_running(timeout)
        for consumer in consumers:
            consumer.stop()
        join_all(consumers, timeout)
        # Other consumers take back only while nobody fetches from them. An owned one gives back
        # by itself what reached the work queue meanwhile.
        unstarted += self.work_queue.drain()
        self._requeue([each for each in unstarted if not each._origin.is_owned])
        for consumer in consumers:
            consumer.close()
        if self._loop is not None:
            self._loop.close()
        if self.recorder is not None:
            self.recorder.close()
        self.broker.emit_after("worker_shutdown", self)
        self.logger.info("Worker has been shut down.")

    @property
    def is_consuming(self) -> bool:
        """Whether the broker can be used, for all of the queues."""
        return all(consumer.is_consuming for consumer in self._consumer_threads())

    @property
    def is_busy(self) -> bool:
        """Whether messages are waiting or running in this worker."""
        on_loop = 0 if self._loop is None else self._loop.unfinished
        return self.work_queue.unfinished + on_loop > 0

    def usage(self) -> Usage:
        """Return what this worker is busy with. Any thread."""
        from .usage import usage_of  # for those who measure

        return usage_of(self)

    def join(self) -> None:
        """Wait until there is nothing parked, waiting or running in this worker."""
        while True:
            for consumer in self._consumer_threads():
                consumer.delay_queue.join()
            self.work_queue.join()
            if self._loop is not None:
                self._loop.join()
            # Parked messages may have become work meanwhile, and work may have parked others.
            if not self._has_work():
                return

    def async_mode_summary(self) -> str | None:
        """Say how async actors run; None if there are none."""
        actors = list(self.broker.actors.values())
        if not any(getattr(actor, "coroutine_function", None) for actor in actors):
            return None
        if self.async_slots <= 0:
            return "one per worker thread (async slots are off)"
        culprits = self._loop_blockers()
        if culprits:
            return (
                f"one per worker thread, because {', '.join(culprits)} "
                "does not declare is_loop_safe = True"
            )
        return f"on one event loop with {self.async_slots} slots"

    # -- for consumer threads

    def runs_on_loop(self, actor: Actor[Any, Any] | None) -> bool:
        """Tell whether messages of ``actor`` run on the event loop rather than on a thread."""
        return (
            self.async_slots > 0
            and getattr(actor, "coroutine_function", None) is not None
            and not self._loop_blockers()
        )

    def _loop_blockers(self) -> list[str]:
        """Name what keeps async actors on threads."""
        blockers = [type(each).__name__ for each in self.broker.chain.not_loop_safe()]
        if WorkerThread.process_message is not settings.PROCESS_MESSAGE:
            blockers.append("a tool that wraps WorkerThread.process_message and")
        return blockers

    def dispatch(self, entries: list[tuple[float, MessageProxy]]) -> None:
        """Give messages, with their priorities, to the runner that fits their actors."""
        actors = self.broker.actors
        names = {entry[1]._message.actor_name for entry in entries}
        origin = entries[0][1]._origin if entries else None
        if not any(_is_async(actors.get(name)) for name in names):
            if origin is not None:
                origin.slow_start.restart()
            self.work_queue.add(entries)
            return
        loop = self._loop_runner()
        loop_names = {name for name in names if self.runs_on_loop(actors.get(name))}
        on_loop = [entry for entry in entries if entry[1]._message.actor_name in loop_names]
        on_threads = [entry for entry in entries if entry[1]._message.actor_name not in loop_names]
        if origin is not None:
            origin.slow_start.observe(has_plain=bool(on_threads))
        if on_threads:
            self.work_queue.add(on_threads)
        if on_loop:
            loop.submit(on_loop)

    def feed_consumers(self) -> None:
        """Tell the consumers that wait for a free slot of one. Any thread."""
        for consumer in tuple(self.consumers.values()):
            consumer.feed()

    def free_slots(self, consumer: ConsumerThread) -> int:
        """Return how many messages of that consumer's queue could start at once."""
        queue_name = q_name(consumer.queue_name)
        on_threads = on_loop = False
        for actor in list(self.broker.actors.values()):
            if actor.queue_name == queue_name:
                if self.runs_on_loop(actor):
                    on_loop = True
                else:
                    on_threads = True
        free = on_free_threads = max(0, self._count_threads() - self.work_queue.unfinished)
        if on_loop:
            free = self._loop_runner().free_slots
        if on_loop and on_threads:
            # They may all be for the threads, and must not pile up there while slots stay free.
            may_wait = consumer.slow_start.allowance - self.work_queue.qsize()
            free = max(on_free_threads, min(free + on_free_threads, may_wait))
        return free

    # -- parts

    def _loop_runner(self) -> LoopRunner:
        with self._lock:
            if self._loop is None:
                from .loop import LoopRunner  # asyncio is only paid for with async actors

                self._loop = LoopRunner(
                    self.broker,
                    self.async_slots,
                    self.feed_consumers,
                    records=self._records(self.worker_threads, self.async_slots),
                    progress=self.recorder.progress() if self.recorder else None,
                )
                self._loop.start()
                if self._is_paused:
                    self._loop.pause()
            return self._loop

    def _consumer_threads(self) -> list[ConsumerThread]:
        with self._lock:
            return list(self.consumers.values())

    def add_consumer(self, queue_name: str, *, is_delay_queue: bool) -> None:
        """Start to consume a queue, unless it is consumed already or not wanted."""
        name = q_name(queue_name)
        is_wanted = not self.consumer_whitelist or name in self.consumer_whitelist
        if not is_wanted or name in self.excluded_queues:
            return
        is_delay_queue = is_delay_queue or queue_name == dq_name(queue_name)
        with self._lock:
            if queue_name in self.consumers:
                return
            consumer = self.consumers[queue_name] = ConsumerThread(
                broker=self.broker,
                queue_name=queue_name,
                prefetch=self.delay_prefetch if is_delay_queue else self._prefetch_of(queue_name),
                work_queue=self.work_queue,
                worker_timeout=self.worker_timeout,
                follow_pace=self._follows_pace(),
                free_slots=self.free_slots,
                dispatch=self.dispatch,
                progress=self.recorder.progress() if self.recorder else None,
            )
        consumer.outage = self._outage
        if self._is_paused:
            consumer.pause()
        consumer.start()

    def _follows_pace(self) -> bool:
        """Whether nobody fixed the prefetch, by environment or assignment."""
        return not settings.QUEUE_PREFETCH and self.queue_prefetch == self._default_prefetch

    def _prefetch_of(self, queue_name: str) -> int:
        """Return how many messages to hold of a queue whose broker needs a number."""
        actors = [each for each in self.broker.actors.values() if each.queue_name == queue_name]
        if not self._follows_pace() or not any(self.runs_on_loop(each) for each in actors):
            return self.queue_prefetch
        return min(self.queue_prefetch + self.async_slots, MAX_NUMBER)

    def _make_worker(self) -> WorkerThread:
        worker = WorkerThread(
            broker=self.broker,
            consumers=self.consumers,
            work_queue=self.work_queue,
            worker_timeout=self.worker_timeout,
        )
        worker.start_stand_in = self._stand_ins.start
        return worker

    def _count_threads(self) -> int:
        """Return how many threads run messages, those included that are about to end."""
        return len(self.workers) + self._stand_ins.count_leaving()

    def _records(self, first: int, count: int) -> list[Record]:
        """Return places to write down what runs; none where nobody reads it."""
        return [] if self.recorder is None else self.recorder.records[first : first + count]

    def _add_worker(self) -> None:
        worker = self._make_worker()
        if self.recorder is not None:
            worker.record = self.recorder.records[len(self.workers)]
        worker.start()
        self.workers.append(worker)

    def _detach(self) -> None:
        """Start no consumers for queues that are declared from now on."""
        middleware, self._middleware = self._middleware, None
        if middleware is not None and middleware in self.broker.middleware:
            self.broker.middleware.remove(middleware)

    def _stop_starting(self) -> list[MessageProxy]:
        """Let the runners start nothing more; return what they have not started."""
        self._stand_ins.pause()
        for worker in tuple(self.workers):
            worker.stop()
        self.work_queue.wake(len(self.workers))
        unstarted = self.work_queue.drain()
        return unstarted if self._loop is None else unstarted + self._loop.drain()

    def _stop_running(self, timeout: int) -> None:
        deadline = time.monotonic() + timeout / 1000
        # A thread that waits for others ends with what it waits for, and its stand-in too.
        join_all([*self.workers, *self._stand_ins.leaving], timeout)
        if self._loop is not None:
            self._requeue(self._loop.stop(max(0.0, deadline - time.monotonic())))

    def _requeue(self, messages: list[MessageProxy]) -> None:
        by_consumer: dict[ConsumerThread, list[MessageProxy]] = {}
        for message in messages:
            by_consumer.setdefault(message._origin, []).append(message)
        for consumer, group in by_consumer.items():
            try:
                consumer.requeue_messages(group)
            except Exception as error:
                # Whatever a consumer raises, the others are still to be closed.
                is_expected = isinstance(error, BrokerConnectionError)
                self.logger.log(
                    logging.WARNING if is_expected else logging.ERROR,
                    "Cannot give %d messages back to queue %r; its broker will deliver them again.",
                    len(group),
                    consumer.queue_name,
                    exc_info=True,
                )

    def _has_work(self) -> bool:
        consumers = self._consumer_threads()
        return self.is_busy or any(each.delay_queue.unfinished_tasks for each in consumers)


class _WorkerMiddleware(Middleware):
    """Starts consumers for queues that are declared while a worker runs."""

    def __init__(self, worker: Worker) -> None:
        self.logger = get_logger("dramatiq.worker", type(self))
        self.worker = worker

    def after_declare_queue(self, broker: Broker, queue_name: str) -> None:
        """Consume the queue."""
        self.logger.debug("Adding consumer for queue %r.", queue_name)
        self.worker.add_consumer(queue_name, is_delay_queue=False)

    def after_declare_delay_queue(self, broker: Broker, queue_name: str) -> None:
        """Consume the delay queue."""
        self.logger.debug("Adding consumer for delay queue %r.", queue_name)
        self.worker.add_consumer(queue_name, is_delay_queue=True)


def _is_async(actor: Any) -> bool:
    """Tell whether an actor, if it is one at all, has a coroutine function behind it."""
    return getattr(actor, "_coroutine_fn", None) is not None


def _wait_while_alive(thread: ConsumerThread | WorkerThread, event: Event) -> None:
    while not event.wait(POLL_S):
        if not thread.is_alive():
            return

"""The runner of async actors: slots on one event loop, no thread held while they wait.

The loop's thread runs the hooks and the coroutines. Consumer threads hand messages in with
`submit`; everything else here is touched by the loop's thread only. What blocks, deferred writes
and settling through a consumer that answers at once, goes to the loop's executor.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any

from ..asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from ..errors import DramatiqError
from ..logging import get_logger
from ..middleware import SkipMessage
from ..threading import _task_target
from . import processing
from .loop_watch import LoopWatch
from .settling import conclude, wants_confirmation

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence

    from ..broker import Broker, MessageProxy
    from ..delivery import Settlement
    from ..flight_recorder import Progress, Record

__all__ = ["LoopRunner"]

#: Seconds the event loop has to start, and cancelled coroutines have to clean up.
LOOP_TIMEOUT_S = 5.0
#: Seconds between two signs that the event loop moves.
PROGRESS_S = 5.0


#: Guards ``_users``.
_users_lock = Lock()
#: How many runners use an event loop thread that one of them started.
_users: dict[EventLoopThread, int] = {}


def _borrow_thread(logger: logging.Logger) -> EventLoopThread:
    """Return the process's event loop thread; start it if there is none."""
    with _users_lock:
        thread = get_event_loop_thread()
        if thread is None:
            thread = EventLoopThread(logger)
            thread.start(timeout=LOOP_TIMEOUT_S)
            set_event_loop_thread(thread)
            _users[thread] = 0
        if thread in _users:
            _users[thread] += 1
        return thread


def _give_back_thread(thread: EventLoopThread) -> bool:
    """Tell whether the caller, who borrowed it, is to stop it; it is not offered any more then."""
    with _users_lock:
        if thread not in _users:
            return False
        _users[thread] -= 1
        if _users[thread]:
            return False
        del _users[thread]
        if get_event_loop_thread() is thread:
            set_event_loop_thread(None)
        return True


class LoopRunner:
    """Runs async actors, at most ``slots`` at a time, by priority and then by arrival.

    Args:
        broker: The broker whose hooks are run.
        slots: How many may run at the same time.
        on_idle: Called when a slot gets free and no message waits for it; the loop's thread.
        records: Where to write down what runs, one place for each slot, if anybody would read it.
        progress: Where to show that the event loop moves, if anybody would look.
    """

    def __init__(
        self,
        broker: Broker,
        slots: int,
        on_idle: Callable[[], None] | None = None,
        *,
        records: Sequence[Record] = (),
        progress: Progress | None = None,
    ) -> None:
        self.logger = get_logger("dramatiq.worker", type(self))
        self.broker = broker
        self.slots = slots
        self._on_idle = on_idle
        self._free_records = list(records)
        self._progress = progress
        self._thread: EventLoopThread | None = None
        self._watch: LoopWatch | None = None
        self._is_blocked = False
        self._sequence = count()
        self._waiting: list[tuple[float, int, MessageProxy]] = []
        self._tasks: dict[asyncio.Task[None], TaskTarget] = {}
        self._paused = False
        #: Guards ``_unfinished``, which both sides change.
        self._changed = Condition()
        self._unfinished = 0

    # -- any thread

    @property
    def unfinished(self) -> int:
        """How many messages are waiting or running."""
        return self._unfinished

    @property
    def free_slots(self) -> int:
        """How many messages could start at once."""
        return max(0, self.slots - self._unfinished)

    def start(self) -> None:
        """Use the process's event loop thread, or start one. Harmless when called twice."""
        if self._thread is None:
            self._thread = _borrow_thread(self.logger)
            self._watch = LoopWatch(
                self._thread, self._message_of, lambda: self._unfinished > 0, self.logger
            )
            self._watch.start()
            if self._progress is not None:
                self._call_soon(self._show_progress)

    def _message_of(self, task: asyncio.Task[Any]) -> MessageProxy | None:
        target = self._tasks.get(task)  # a single step, from another thread too
        return None if target is None else target.message

    def submit(self, entries: list[tuple[float, MessageProxy]]) -> None:
        """Run messages, given with their priorities, as slots get free."""
        with self._changed:
            self._unfinished += len(entries)
        self._call_soon(self._accept, entries)

    def pause(self) -> None:
        """Start no more messages; what is running goes on."""
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        if self._thread is not None:
            self._call_soon(self._start_waiting)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is unfinished; False if that was not reached in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._unfinished == 0, timeout_s)

    def join_running(self, timeout_s: float) -> bool:
        """Wait until nothing is running, whatever waits; False if not reached in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._unfinished <= len(self._waiting), timeout_s)

    def stop(self, timeout_s: float) -> list[MessageProxy]:
        """Start nothing more, wait for what runs, cancel the rest.

        Returns:
            The messages that were not finished, to be given back to the broker.
        """
        self._paused = True
        self.join_running(timeout_s)
        return self._on_loop(self._cancel_all)

    def drain(self) -> list[MessageProxy]:
        """Start nothing more; return the messages that have not been started."""
        self._paused = True
        return self._on_loop(self._drain)

    def _on_loop(
        self, function: Callable[[], Coroutine[Any, Any, list[MessageProxy]]]
    ) -> list[MessageProxy]:
        if self._thread is None:
            return []
        future = asyncio.run_coroutine_threadsafe(function(), self._thread.loop)
        try:
            return future.result(LOOP_TIMEOUT_S * 2)
        except TimeoutError:
            self._is_blocked = True
            self.logger.error(  # noqa: TRY400 (where we waited tells nothing)
                "An async actor blocks the event loop, so its messages cannot be given back now; "
                "the broker does that when the consumers close. Await instead of blocking, or "
                "make it a plain function."
            )
            return []

    def close(self) -> None:
        """Stop the event loop thread, if it was started for us and nobody else uses it."""
        thread, self._thread = self._thread, None
        if self._watch is not None:
            self._watch.stop()
        if self._progress is not None:
            self._progress.rest()
        if thread is not None and _give_back_thread(thread) and not self._is_blocked:
            thread.stop()

    def _call_soon(self, callback: Any, *args: Any) -> None:
        if self._thread is None:
            raise DramatiqError("the event loop of this worker is not running")
        self._thread.loop.call_soon_threadsafe(callback, *args)

    # -- the loop's thread

    def _show_progress(self) -> None:
        if self._progress is not None and self._thread is not None:
            self._progress.expect(PROGRESS_S)
            asyncio.get_running_loop().call_later(PROGRESS_S, self._show_progress)

    def _accept(self, entries: Iterable[tuple[float, MessageProxy]]) -> None:
        for priority, message in entries:
            heapq.heappush(self._waiting, (priority, next(self._sequence), message))
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and not self._paused and len(self._tasks) < self.slots:
            message = heapq.heappop(self._waiting)[2]
            task = asyncio.get_running_loop().create_task(self._process(message))
            self._tasks[task] = TaskTarget(task, message)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task).release()
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()
        if not task.cancelled() and task.exception() is not None:
            self.logger.error("Unexpected failure in a slot.", exc_info=task.exception())
        self._start_waiting()
        if self._on_idle is not None and not self._waiting:
            self._on_idle()

    async def _drain(self) -> list[MessageProxy]:
        unstarted = [message for _, _, message in self._waiting]
        self._waiting.clear()
        with self._changed:
            self._unfinished -= len(unstarted)
            self._changed.notify_all()
        return unstarted

    async def _cancel_all(self) -> list[MessageProxy]:
        unstarted = await self._drain()
        interrupted = [target.message for target in list(self._tasks.values()) if target.abandon()]
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=LOOP_TIMEOUT_S)
        return unstarted + interrupted

    async def _process(self, message: MessageProxy) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (this is a task)
        target = self._tasks[task]
        _task_target.set(target)
        if not self._free_records:
            await self._run_message(message, target)
        else:
            record = self._free_records.pop()
            envelope = message._message
            record.begin(message._lease, envelope.actor_name, envelope.queue_name)
            message._record = record
            try:
                await self._run_message(message, target)
            finally:
                record.end()
                self._free_records.append(record)
        if target.is_abandoned:
            return
        await self._settle(message)
        message.clear_exception()

    async def _run_message(self, message: MessageProxy, target: TaskTarget) -> None:
        broker = self.broker
        try:
            actor = processing.before(broker, message)
            result = None
            if actor is not None:
                result = await self._call(actor, message, target)
            if not target.is_abandoned:
                processing.after_success(broker, message, result)
        except SkipMessage as skip:
            processing.after_skip(broker, message, skip)
        except BaseException as exception:
            if not target.is_abandoned:
                self._run_hooks_after_failure(message, exception)

    def _run_hooks_after_failure(self, message: MessageProxy, exception: BaseException) -> None:
        try:
            processing.after_failure(self.broker, message, exception)
        except BaseException:
            # It would end the event loop, and every other message with it.
            self.logger.exception("A hook after the failure of message %s failed.", message)

    async def _call(self, actor: Any, message: MessageProxy, target: TaskTarget) -> Any:
        function = actor.coroutine_function
        target.is_interruptible = True
        try:
            return await function(*message._message.args, **message._message.kwargs)
        except asyncio.CancelledError:
            if target.requested is None:
                raise
            # From None: the cancellation is how it was done, not what happened.
            raise target.requested() from None
        finally:
            target.is_interruptible = False

    async def _settle(self, message: MessageProxy) -> None:
        follow_ups = message._follow_ups
        if follow_ups is not None and follow_ups.deferred:
            await asyncio.to_thread(follow_ups.run_deferred)
        consumer = message._origin
        if not consumer.is_owned:
            await asyncio.to_thread(consumer.post_process_message, message)
            return
        settlement = processing.settlement_of(message)
        if not consumer.announce(settlement):
            return
        if not wants_confirmation(self.broker, settlement):
            consumer.submit(settlement)
            return
        settled = await self._confirmed(consumer, settlement)
        await asyncio.to_thread(conclude, self.broker, settlement, settled)

    async def _confirmed(self, consumer: Any, settlement: Settlement) -> bool:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()
        settlement.on_settled = lambda settled: _call_if_open(loop, _answer, answer, settled)
        consumer.submit(settlement)
        return await answer


class TaskTarget:
    """The task that runs one message, for whoever has to interrupt it."""

    __slots__ = ("_loop", "_task", "is_abandoned", "is_interruptible", "message", "requested")

    def __init__(self, task: asyncio.Task[None], message: MessageProxy) -> None:
        self._task: asyncio.Task[None] | None = task
        self._loop = task.get_loop()
        self.message = message
        self.requested: type[BaseException] | None = None
        self.is_interruptible = False
        self.is_abandoned = False

    @property
    def key(self) -> Hashable:
        """The message's place in memory: no two live messages share it."""
        return ("task", id(self.message))

    @property
    def description(self) -> str:
        """How people are told of it."""
        return f"the task of message {self.message.message_id}"

    def interrupt(self, exception: type[BaseException]) -> None:
        """Raise ``exception`` in the actor; from any thread. Nothing if it is done."""
        self._loop.call_soon_threadsafe(self._interrupt, exception)

    def _interrupt(self, exception: type[BaseException]) -> None:
        if self.is_interruptible and self._task is not None:
            self.requested = exception
            self._task.cancel()

    def abandon(self) -> bool:
        """Cancel the actor for a shutdown; False if it is past that. The loop's thread only."""
        if not self.is_interruptible or self._task is None:
            return False
        self.is_abandoned = True
        self._task.cancel()
        return True

    def release(self) -> None:
        """Let go of the task: its context holds this, and such a cycle would keep both alive."""
        self._task = None


def _call_if_open(loop: asyncio.AbstractEventLoop, callback: Any, *args: Any) -> None:
    """Call back on a loop that may have been closed meanwhile, at the end of a shutdown."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _answer(future: asyncio.Future[bool], settled: bool) -> None:
    if not future.done():
        future.set_result(settled)

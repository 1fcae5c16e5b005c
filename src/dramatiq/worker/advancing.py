"""What messages mean for their workflows is done before they are settled.

The consumer's thread records what became of all that waits to be settled, in one round trip.
Most messages of workflows are settled then like any other. Those that make something go on are
handed to a thread of its own, which does that, however long it takes, and hands them back to be
settled. If this process dies meanwhile, they are delivered again, and it is done then.
"""

from __future__ import annotations

from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING

from ..delivery import Outcome, Settlement
from ..errors import BrokerConnectionError
from ..logging import get_logger
from .processing import NEVER_STORABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..broker import Broker, Consumer
    from ..workflows.step import Step

__all__ = ["Advancing"]

#: Seconds between two attempts while the store of workflows cannot be reached.
PAUSE_S = 1.0


class Advancing:
    """Does what settlements mean for workflows. Belongs to the consumer's thread.

    Args:
        broker: The broker.
        submit: Takes settlements that can be carried out now. Called from the other thread.
        is_stopping: Set when there is no time left to wait for a store to come back.
    """

    def __init__(
        self, broker: Broker, submit: Callable[[Settlement], None], is_stopping: Event
    ) -> None:
        self.logger = get_logger("dramatiq.worker", type(self))
        self._broker = broker
        self._submit = submit
        self._is_stopping = is_stopping
        self._queue: SimpleQueue[Settlement | None] = SimpleQueue()
        self._thread: Thread | None = None

    def sort_out(
        self, consumer: Consumer, settlements: Sequence[Settlement]
    ) -> tuple[list[Settlement], list[Settlement]]:
        """Record what became of messages; return what can be settled, and what can not yet.

        Raises:
            BrokerConnectionError: If it cannot be recorded; it can be tried again.
        """
        concerned = [each for each in settlements if each.step is not None]
        if not concerned:
            return list(settlements), []
        self._record(consumer, concerned)
        ready = [each for each in settlements if each.step is None]
        return ready, [each for each in concerned if each.step is not None]

    def _record(self, consumer: Consumer, settlements: Sequence[Settlement]) -> None:
        consumer.keep(settlements)
        arriving = [
            (each, step.arrival)
            for each in settlements
            if (step := each.step) is not None and step.arrival is not None and not step.growths
        ]
        from ..workflows.store import Status  # as few workers have any to do with it

        statuses = self._broker.workflows.arrive([arrival for _, arrival in arriving])
        for (each, _), status in zip(arriving, statuses, strict=True):
            if status is Status.WAITING:
                each.step = None
            elif each.step is not None:
                each.step.status = status

    def hand_over(self, settlements: Sequence[Settlement]) -> None:
        """Have the thread do what settlements mean, and submit them afterwards."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="dramatiq-workflows", daemon=True)
            self._thread.start()
        for each in settlements:
            self._queue.put(each)

    def finish(self) -> None:
        """Wait until the thread has done everything and ended."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        while (settlement := self._queue.get()) is not None:
            self.do(settlement)
            self._submit(settlement)
            # While this thread waits, it must not keep alive what it did last.
            settlement = None

    def do(self, settlement: Settlement) -> None:
        """Do what one settlement means, as often as it takes; from any thread.

        What cannot be done because of the store is tried again, and leads to a requeue at the end
        of this worker. What can never be done makes the message a dead letter, which says why.
        """
        while True:
            try:
                self._do(settlement.step)
            except NEVER_STORABLE as error:
                self.logger.exception(
                    "The workflow of message %s cannot go on.", settlement.message
                )
                settlement.outcome = Outcome.NACK
                settlement.reason = f"its workflow cannot go on: {type(error).__name__}: {error}"
                break
            except Exception as error:
                is_known = isinstance(error, BrokerConnectionError)
                self.logger.warning(
                    "A workflow cannot go on now: %s", error, exc_info=None if is_known else error
                )
                if self._is_stopping.wait(PAUSE_S):
                    settlement.outcome = Outcome.REQUEUE
                    break
            else:
                break
        settlement.step = None

    def _do(self, step: Step | None) -> None:
        if step is None:
            return
        for growth in step.growths:
            growth()
        if step.arrival is None:
            return
        from ..workflows.store import Status

        workflows = self._broker.workflows
        status = step.status
        if status is None:
            [status] = workflows.arrive([step.arrival])
        if status is not Status.WAITING:
            workflows.advance(step.arrival, status)

"""One thread per broker and process that beats, and looks after those who do not any more.

It runs while there are consumers. The heartbeat has nothing to do with what consumers are at: a
full prefetch, long tasks or an idle queue neither hasten nor delay it.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from ... import flight_recorder
from ...common import dq_name
from ...errors import BrokerConnectionError
from ...logging import get_logger
from .._store import decode, poison_reason

if TYPE_CHECKING:
    from .broker import RedisBroker
    from .membership import Sibling

__all__ = ["Caretaker"]

#: Seconds between two heartbeats at most; a sixth of the timeout if that is less.
BEAT_S = 5.0
#: Seconds between two looks at whether the processes of this machine are there. It costs the
#: server nothing.
LOOK_S = 0.25
#: Seconds between two searches for workers without heartbeat, and how much they vary.
SWEEP_S = 5.0
SWEEP_JITTER = 0.2
#: Seconds for which nobody is taken for dead after this worker could not beat in time itself, for
#: the others may not have reached the server either. They come back as fast as we did, or as an
#: attempt to connect that began shortly before takes to fail.
GRACE_S = 10.0
#: Seconds between two rounds of dropping what has expired and of checking the index of delays.
MAINTENANCE_S = 60.0
#: Seconds between two searches for leases that belong to nobody, in all processes together.
ORPHANS_S = 3600.0
#: Seconds before the caretaker tries again after an error.
RESTART_S = 0.5


class Caretaker:
    """Owns that thread.

    Args:
        broker: Whose workers to look after.
    """

    def __init__(self, broker: RedisBroker) -> None:
        self.logger = get_logger("dramatiq.brokers.redis", type(self))
        self._broker = broker
        self._stopping = threading.Event()
        self._siblings: list[Sibling] = []
        now = time.monotonic()
        self._beat_at = self._sweep_at = self._beaten_at = now
        # Not all at once when many processes start together.
        self._maintain_at = now + random.uniform(0, MAINTENANCE_S)  # noqa: S311
        self._orphans_at = now + MAINTENANCE_S
        self._thread = threading.Thread(
            target=self._run, name="dramatiq-redis-caretaker", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Harmless when called twice."""
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._care()
            except BrokerConnectionError as error:
                self.logger.warning("Cannot look after the workers: %s", error)
                self._stopping.wait(RESTART_S)
            except Exception:
                self.logger.exception("Unexpected failure while looking after the workers.")
                self._stopping.wait(RESTART_S)

    def _care(self) -> None:
        broker = self._broker
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= self._beat_at:
                self._beat()
                self._beat_at = now + min(BEAT_S, broker.own_timeout / 6000)
            self._look_for_dead_siblings()
            if now >= self._sweep_at:
                # Moved on first: an error here must not come back at once.
                self._sweep_at = now + SWEEP_S * random.uniform(  # noqa: S311
                    1 - SWEEP_JITTER, 1 + SWEEP_JITTER
                )
                self._sweep()
            if now >= self._maintain_at:
                self._maintain_at = now + MAINTENANCE_S
                self._maintain()
            if now >= self._orphans_at:
                self._orphans_at = now + MAINTENANCE_S
                self._look_for_orphans()
            self._stopping.wait(LOOK_S)

    def _beat(self) -> None:
        broker = self._broker
        worker = broker.broker_id
        is_registered, self._siblings = broker.membership.beat(worker, self._siblings)
        if not is_registered:
            broker.disown(worker)
        now = time.monotonic()
        if now - self._beaten_at > broker.own_timeout / 2000:
            self._sweep_at = now + min(GRACE_S, broker.own_timeout / 1000)
        self._beaten_at = now

    def _look_for_dead_siblings(self) -> None:
        """Take back at once what processes of this machine held that are gone."""
        for sibling in [each for each in self._siblings if not each.is_alive]:
            broker = self._broker
            names, recorders = broker.membership.queues_and_recorders_of(sibling.worker)
            names += broker.all_queue_names
            running = [lease for each in recorders for lease in flight_recorder.read(each)]
            limit = broker.max_crashes
            dead = broker.membership.blame(sibling.worker, names, running, limit)
            broker.tell_workflows_of_dead(map(decode, dead), poison_reason(limit))
            moved = broker.membership.reclaim(sibling.worker, names)
            # Last: whoever noticed it beside us has to find the same.
            for each in recorders:
                flight_recorder.forget(each)
            self._siblings.remove(sibling)
            self._tell(sibling.worker, moved)

    def _sweep(self) -> None:
        """Take back what workers without heartbeat held, on whichever machine they were."""
        broker = self._broker
        timeout = min(broker.own_timeout, broker.heartbeat_timeout)
        # Of those on this machine we know better than by their heartbeats.
        alive = {each.worker for each in self._siblings if each.is_alive}
        for worker, names in broker.membership.find_dead(
            broker.own_timeout,
            broker.heartbeat_timeout,
            but=broker.broker_id,
            turn=int(SWEEP_S * 1000),
        ).items():
            if worker in alive:
                continue
            moved = broker.membership.reclaim(worker, names, timeout=timeout)
            if moved:
                self._tell(worker, moved)

    def _tell(self, worker: str, moved: int) -> None:
        self.logger.warning("Worker %s died: %d messages go back to their queues.", worker, moved)

    def _maintain(self) -> None:
        broker = self._broker
        for queue_name in list(broker.queues):
            broker.expire_dead_letters(queue_name)
            broker.parking.check(dq_name(queue_name))

    def _look_for_orphans(self) -> None:
        """Take back what is leased to workers that nobody knows."""
        broker = self._broker
        if not broker.take_turn(broker.layout.orphans_lock, int(ORPHANS_S * 1000)):
            return
        for worker, queue_name in broker.membership.find_ack_sets():
            moved = broker.membership.reclaim_if_unknown(worker, queue_name)
            if moved:
                self._tell(worker, moved)

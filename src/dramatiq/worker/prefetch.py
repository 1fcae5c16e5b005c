"""How many messages a consumer should take: enough to stay busy, never a hoard.

Pure arithmetic; the consumer thread that owns it brings the clock.
"""

from __future__ import annotations

__all__ = ["Prefetch", "SlowStart"]

#: Seconds of work to hold at the measured pace: covers a slow round trip to the store.
WORK_AHEAD_S = 0.1
#: Most messages a consumer holds that have to wait, however fast they run; and most it asks for at
#: a time.
MAX_PREFETCH = 1000
#: Messages of a queue for threads and slots that may wait for a thread, until more is known of it.
LEAST_MIXED = 4
#: Seconds after which what was measured counts half. Long enough that tasks which end together, as
#: those that started together do, are not taken for a fast pace; short enough that a backlog of
#: short ones is met within a tenth of a second.
PACE_HALF_LIFE_S = 0.15


class Prefetch:
    """Decides how many messages to fetch next.

    Args:
        fixed: A fixed limit of messages held at a time; None follows the measured pace.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.fixed = fixed
        self._pace = 0.0
        self._observed_at: float | None = None

    def observe(self, finished: int, now: float) -> None:
        """Take note that ``finished`` messages ended since the last call.

        Args:
            finished: How many.
            now: The monotonic clock, in seconds.
        """
        if self._observed_at is None:
            self._observed_at = now
            return
        # The exponentially weighted mean of the rate since ever, for samples at any distance.
        elapsed = max(now - self._observed_at, 1e-6)
        self._observed_at = now
        kept = 0.5 ** (elapsed / PACE_HALF_LIFE_S)
        self._pace = self._pace * kept + (1 - kept) * finished / elapsed

    def demand(self, *, held: int, free_slots: int, others_waiting: bool) -> int:
        """Return how many messages to fetch now.

        Args:
            held: Messages of this consumer that are waiting or running.
            free_slots: Worker threads and loop slots with nothing to do. What they run does not
                wait, so there may be more of them than `MAX_PREFETCH`.
            others_waiting: Whether messages wait to be run in this worker; then this queue may
                have one waiting too, or a busy queue would keep the others out.
        """
        if self.fixed is not None:
            return max(0, self.fixed - held)
        ahead = int(self._pace * WORK_AHEAD_S) + (1 if others_waiting else 0)
        return min(max(free_slots, min(ahead, MAX_PREFETCH) - held, 0), MAX_PREFETCH)


class SlowStart:
    """How many messages to take of a queue of which some run on threads and some in slots.

    Which of them come next nobody knows before they are here, and those for threads would pile up
    in a process with thousands of free slots while another one idles. So it begins with a few, and
    takes twice as many each time that there was none for threads: the slow start of TCP (RFC 5681,
    section 3.1). Consumer thread only.

    Attributes:
        allowance: How many may wait for a thread before no more are taken.
    """

    def __init__(self) -> None:
        self.allowance = LEAST_MIXED

    def observe(self, *, has_plain: bool) -> None:
        """Take note of some messages.

        Args:
            has_plain: Whether one of them runs on a thread.
        """
        self.allowance = LEAST_MIXED if has_plain else min(2 * self.allowance, MAX_PREFETCH)

    def restart(self) -> None:
        """Begin anew: the queue was empty, and whatever comes next has nothing to do with it."""
        self.allowance = LEAST_MIXED

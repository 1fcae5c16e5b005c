"""When a dead child is replaced: pure arithmetic, without clock or process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How fast dead children come back, and when to give up.

    Attributes:
        first_delay_s: Seconds before the first replacement; doubled for each fast death after it.
        longest_delay_s: No wait is longer than this.
        fast_deaths_allowed: This many fast deaths in a row end it: something is wrong that a
            restart does not heal.
        healthy_after_s: A child that was ready for this long did not die fast. Short, so that
            children killed from outside every few seconds do not add up to a broken program.
    """

    first_delay_s: float = 0.1
    longest_delay_s: float = 30.0
    fast_deaths_allowed: int = 10
    healthy_after_s: float = 1.0


class RestartHistory:
    """Counts the fast deaths of one child and of those that replaced it.

    Args:
        policy: The limits.
    """

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.fast_deaths = 0

    def delay_after_death(self, ready_for_s: float | None) -> float | None:
        """Note a death and say how long to wait before the replacement.

        Args:
            ready_for_s: For how many seconds the dead child was ready; None if it never was.

        Returns:
            Seconds, or None when there have been too many fast deaths in a row.
        """
        policy = self._policy
        if ready_for_s is not None and ready_for_s >= policy.healthy_after_s:
            self.fast_deaths = 0
            return policy.first_delay_s

        self.fast_deaths += 1
        if self.fast_deaths >= policy.fast_deaths_allowed:
            return None
        delay_s: float = policy.first_delay_s * 2 ** (self.fast_deaths - 1)
        return min(delay_s, policy.longest_delay_s)

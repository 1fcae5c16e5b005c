"""What the tests of workflows have in common: actors of each kind, and a worker that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ..actor import actor as declare_actor
from ..composition import group
from ..worker import Worker
from .broker_suite import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..broker import Broker

__all__ = ["PATIENCE", "WorkflowSuite"]

#: Milliseconds a workflow may take.
PATIENCE = 20_000


def echo(*given: Any) -> list[Any]:
    """Return what was given."""
    return list(given)


async def aecho(*given: Any) -> list[Any]:
    """Return what was given, on the event loop."""
    return list(given)


def fail(*given: Any) -> None:
    """Fail."""
    raise ValueError(f"failed on {given!r}")


class WorkflowSuite:
    """Subclasses supply a fixture ``broker`` that can keep workflows."""

    @pytest.fixture
    def ledger(self) -> Ledger:
        """Where actors write what they were given."""
        return Ledger()

    @pytest.fixture(autouse=True)
    def worker(
        self, broker: Broker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Any]:
        """Declare the actors, and run a worker."""
        monkeypatch.setattr("dramatiq.broker.global_broker", broker)
        self.declare(broker, ledger)
        worker = Worker(broker, worker_timeout=100, worker_threads=4)
        worker.start()
        yield worker
        worker.stop()

    def declare(self, broker: Broker, ledger: Ledger) -> None:
        """Declare the actors."""
        self.is_told = False

        def fail_until_told(*given: Any) -> list[Any]:
            if not self.is_told:
                raise ValueError("not told yet")
            return list(given)

        attempts = []

        def fail_once(*given: Any) -> list[Any]:
            attempts.append(given)
            if len(attempts) == 1:
                raise ValueError("once")
            return list(given)

        def note(*given: Any) -> None:
            ledger.write(given)

        def split(count: int, *given: Any) -> Any:
            return group([self.echo.message(each) for each in range(count)]) | self.echo.message()

        def count_down(number: int, *given: Any) -> Any:
            return self.count_down.message(number - 1) if number else "zero"

        def grow(number: int) -> int:
            if number:
                group.current().add(self.grow.message(number - 1))
            return number

        self.echo: Any = declare_actor(echo, broker=broker)
        self.aecho: Any = declare_actor(aecho, broker=broker)
        self.fail: Any = declare_actor(fail, broker=broker, max_retries=0)
        self.fail_until_told: Any = declare_actor(fail_until_told, broker=broker, max_retries=0)
        self.fail_once: Any = declare_actor(fail_once, broker=broker, max_retries=1, min_backoff=1)
        self.note: Any = declare_actor(note, broker=broker)
        self.split: Any = declare_actor(split, broker=broker)
        self.count_down: Any = declare_actor(count_down, broker=broker)
        self.grow: Any = declare_actor(grow, broker=broker)

    def result(self, composed: Any) -> Any:
        """Run a pipeline and return its result."""
        return composed.run().get_result(block=True, timeout=PATIENCE)

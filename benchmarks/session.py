"""A store of its own, the workers on it, and the steps that fill it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .marks import Marks
from .processes import cpu_seconds, family, freeze, thaw
from .stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from .systems import System

__all__ = ["Session"]

#: Seconds for one step, and for workers to be ready.
STEP_TIMEOUT_S = 120
READY_TIMEOUT_S = 30
#: Seconds workers get to stop before they are killed.
STOP_TIMEOUT_S = 10
#: Seconds between two looks at the log.
LOOK_INTERVAL_S = 0.002
#: Seconds between two rounds of greetings.
GREETING_INTERVAL_S = 0.2


class Session:
    """One run of one system on a fresh store. A context manager: leaving it ends the workers.

    Args:
        system: What to run.
        count: How many messages will be marked.
        settings: Added to the settings of the system.
    """

    def __init__(self, system: System, count: int, settings: dict[str, Any] | None = None) -> None:
        self.system = system
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.store = open_store(system.store, self.folder)
        self.log = self.folder / "workers.log"
        self.marks = Marks.create(self.folder / "marks", max(count, 1))
        self._workers: list[subprocess.Popen[bytes]] = []
        self._variables = system.variables() | {
            "BENCHMARK_STORE": self.store.address,
            "BENCHMARK_MARKS": str(self.marks.path),
            "BENCHMARK_SETTINGS": json.dumps(system.settings | (settings or {})),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended = [worker.args for worker in self._workers if worker.poll() is not None]
        self.stop()
        self.store.close()
        log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
        self.marks.close()
        self._folder.cleanup()
        if error is None and ended:
            raise RuntimeError(f"{self.system.name}: ended by themselves: {ended}\n{log}")
        if error is not None:
            error.add_note(f"{self.system.name}: {log}")

    def step(self, name: str, *numbers: int) -> Any:
        """Run a step of the adapter, see `benchmarks.adapters.driver`, and return its answer."""
        driver = [self.system.python(), "-m", "benchmarks.adapters.driver", self.system.adapter]
        done = subprocess.run(
            [*driver, name, *map(str, numbers)],
            cwd=self.folder,
            env=self._variables,
            stdout=subprocess.PIPE,
            timeout=STEP_TIMEOUT_S,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])

    def launch(self, commands: list[list[str]]) -> None:
        """Start workers without waiting for them."""
        with self.log.open("ab") as log:
            for command in commands:
                process = subprocess.Popen(
                    command, cwd=self.folder, env=self._variables, stdout=log, stderr=log
                )
                self._workers.append(process)

    def start(self, processes: int, threads: int) -> None:
        """Start workers and wait until each process has run a message, and no message is left."""
        self.launch(self.step("commands", processes, threads))
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self.marks.greeted() < processes:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.system.name}: not ready after {READY_TIMEOUT_S} s.")
            self.step("greet", 2 * processes * threads)
            time.sleep(GREETING_INTERVAL_S)
        time.sleep(2 * GREETING_INTERVAL_S)

    def wait_for_ready_lines(self, count: int) -> None:
        """Wait until the workers have logged so many times that they are ready.

        Raises:
            TimeoutError: They have not at the deadline.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self.log.read_text(errors="replace").count(self.system.ready_line) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.system.name}: not ready after {READY_TIMEOUT_S} s.")
            time.sleep(LOOK_INTERVAL_S)

    @property
    def worker_pids(self) -> list[int]:
        """All processes of the workers, those that only watch over them included."""
        return family(worker.pid for worker in self._workers)

    def freeze(self) -> list[int]:
        """Stop all workers at a moment when none of them has the store locked.

        Returns:
            Their ids, for `thaw`.
        """
        while True:
            pids = self.worker_pids
            freeze(pids)
            if self.store.is_free():
                return pids
            thaw(pids)
            time.sleep(GREETING_INTERVAL_S)

    def usage(self, pids: Iterable[int] = ()) -> dict[str, float]:
        """Return what these processes and the store have used so far, by metric."""
        return {"cpu_us": cpu_seconds(pids) * 1e6, **self.store.usage()}

    def stop(self) -> None:
        """End the workers; harmless twice."""
        workers, self._workers = self._workers, []
        pids = family(worker.pid for worker in workers if worker.poll() is None)
        thaw(pids)
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for worker in workers:
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                for pid in family([worker.pid]):
                    os.kill(pid, signal.SIGKILL)
                worker.wait()

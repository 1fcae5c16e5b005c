"""The systems that are measured, and the environment each runs in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["SYSTEMS", "System", "select"]

ROOT = Path(__file__).resolve().parent.parent
#: Environments of peers; ignored by git, made when first needed.
ENVIRONMENTS = Path(__file__).resolve().parent / ".venvs"

#: What Dramatiq's workers log, and ours.
READY_LINE = "Worker process is ready"
#: The Dramatiq that ours stands in for, with the parser that our extra installs too: what differs
#: is not to be the client library.
DRAMATIQ2 = "dramatiq[redis]==2.2.1 hiredis"
DRAMATIQ2_GEVENT = "dramatiq[redis,gevent]==2.2.1 hiredis"

DRAMATIQ2_RABBITMQ = "dramatiq[rabbitmq]==2.2.1"


@dataclass(frozen=True)
class System:
    """A task queue with one choice of settings.

    Attributes:
        name: How tables and the command line call it: the adapter, then the variant if any.
        role: ``"ours"``, ``"peer"`` or ``"limit"``.
        package: What its workers import; empty where that says nothing.
        requirement: What pip installs into an environment of its own, separated by spaces; empty
            for this interpreter.
        settings: What the adapter reads.
        environment: Variables its processes start with, besides ours.
        ready_line: What each process of its workers logs when it is ready; empty if none does.
        is_default: Whether it is measured when nobody asks for it.
    """

    name: str
    role: str
    package: str = ""
    requirement: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    ready_line: str = ""
    is_default: bool = True

    @property
    def adapter(self) -> str:
        """The module in `benchmarks.adapters`."""
        return self.name.partition(":")[0]

    @property
    def store(self) -> str:
        """The kind of store it keeps messages in, see `benchmarks.stores`."""
        return self.adapter.rpartition("_")[2]

    def python(self) -> str:
        """Return the interpreter of its environment, which is made if it is missing."""
        if not self.requirement:
            return sys.executable
        # Without brackets: a peer that looks for its own files with a pattern would find none.
        name = re.sub(r"[^\w.=]+", "-", self.requirement)
        home = ENVIRONMENTS / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
        python, is_complete = str(home / "bin" / "python"), home / "complete"
        if not is_complete.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, *self.requirement.split()], check=True, stdout=sys.stderr)
            is_complete.touch()
        return python

    def variables(self) -> dict[str, str]:
        """Return the environment variables its processes start with."""
        # A peer may have our import name: its processes must not find our source.
        paths = [str(ROOT), str(ROOT / "src")] if self.role == "ours" else [str(ROOT)]
        return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | self.environment


def _variants(adapter: str) -> list[System]:
    """Return our ways to start processes that are measured when they are asked for."""
    return [
        System(
            f"{adapter}:{variant}",
            "ours",
            "dramatiq",
            settings={variant: True},
            ready_line=READY_LINE,
            is_default=False,
        )
        for variant in ("gevent", "spawn")
    ]


SYSTEMS = (
    System("dramatiq_sqlite", "ours", "dramatiq", ready_line=READY_LINE),
    System(
        "dramatiq_sqlite:normal",
        "ours",
        "dramatiq",
        settings={"synchronous": "NORMAL"},
        is_default=False,
    ),
    *_variants("dramatiq_sqlite"),
    System("huey_sqlite", "peer", "huey", "huey"),
    System(
        "huey_sqlite:best",
        "peer",
        "huey",
        "huey",
        settings={
            "storage": {"fsync": False, "strict_fifo": False, "results": False},
            "consumer": ["-q", "-n", "-C", "-d", "0.001", "-m", "0.01"],
        },
    ),
    System("loop_sqlite", "limit"),
    System("dramatiq_redis", "ours", "dramatiq", ready_line=READY_LINE),
    *_variants("dramatiq_redis"),
    System("dramatiq2_redis", "peer", "dramatiq", DRAMATIQ2, ready_line=READY_LINE),
    System(
        "dramatiq2_redis:gevent",
        "peer",
        "dramatiq",
        DRAMATIQ2_GEVENT,
        settings={"gevent": True},
        ready_line=READY_LINE,
        is_default=False,
    ),
    System(
        "dramatiq2_redis:tuned",
        "peer",
        "dramatiq",
        DRAMATIQ2,
        settings={"async_threads": 100},
        environment={"dramatiq_queue_prefetch": "200"},
        ready_line=READY_LINE,
    ),
    System("loop_redis", "limit"),
    System("dramatiq_rabbitmq", "ours", "dramatiq", ready_line=READY_LINE, is_default=False),
    System(
        "dramatiq2_rabbitmq",
        "peer",
        "dramatiq",
        DRAMATIQ2_RABBITMQ,
        ready_line=READY_LINE,
        is_default=False,
    ),
    System(
        "dramatiq2_rabbitmq:tuned",
        "peer",
        "dramatiq",
        DRAMATIQ2_RABBITMQ,
        environment={"dramatiq_queue_prefetch": "200"},
        ready_line=READY_LINE,
        is_default=False,
    ),
    System("dramatiq_postgres", "ours", "dramatiq", ready_line=READY_LINE, is_default=False),
)


def select(names: str) -> list[System]:
    """Return the systems that a comma-separated list names, with or without their variant.

    The name of a store stands for all systems on it.

    Raises:
        ValueError: A name fits no system.
    """
    if not names:
        return [system for system in SYSTEMS if system.is_default]
    wanted = set(names.split(","))
    for name in wanted:
        if all(name not in {system.name, system.adapter, system.store} for system in SYSTEMS):
            known = ", ".join(system.name for system in SYSTEMS)
            raise ValueError(f"Unknown system {name!r}; there are: {known}.")
    return [
        system
        for system in SYSTEMS
        if system.name in wanted
        or (system.is_default and not wanted.isdisjoint({system.adapter, system.store}))
        or (system.store in {"rabbitmq", "postgres"} and system.store in wanted)
    ]

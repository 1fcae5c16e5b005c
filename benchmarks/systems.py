"""The systems that are measured, and the environment each runs in."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["SYSTEMS", "System", "select"]

ROOT = Path(__file__).resolve().parent.parent
#: Environments of peers; ignored by git, made when first needed.
ENVIRONMENTS = Path(__file__).resolve().parent / ".venvs"


@dataclass(frozen=True)
class System:
    """A task queue with one choice of settings.

    Attributes:
        name: How tables and the command line call it: the adapter, then the variant if any.
        role: ``"ours"``, ``"peer"`` or ``"limit"``.
        package: What its workers import; empty where that says nothing.
        requirement: What pip installs into an environment of its own; empty for this interpreter.
        settings: What the adapter reads.
        ready_line: What each process of its workers logs when it is ready; empty if none does.
        is_default: Whether it is measured when nobody asks for it.
    """

    name: str
    role: str
    package: str = ""
    requirement: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    ready_line: str = ""
    is_default: bool = True

    @property
    def adapter(self) -> str:
        """The module in `benchmarks.adapters`."""
        return self.name.partition(":")[0]

    def python(self) -> str:
        """Return the interpreter of its environment, which is made if it is missing."""
        if not self.requirement:
            return sys.executable
        home = (
            ENVIRONMENTS / f"{self.requirement}-{sys.version_info.major}.{sys.version_info.minor}"
        )
        python, is_complete = str(home / "bin" / "python"), home / "complete"
        if not is_complete.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, self.requirement], check=True, stdout=sys.stderr)
            is_complete.touch()
        return python

    def variables(self) -> dict[str, str]:
        """Return the environment variables its processes start with."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        return os.environ | {"PYTHONPATH": path}


SYSTEMS = (
    System("dramatiq_sqlite", "ours", "dramatiq", ready_line="Worker process is ready"),
    System(
        "dramatiq_sqlite:normal",
        "ours",
        "dramatiq",
        settings={"synchronous": "NORMAL"},
        is_default=False,
    ),
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
)


def select(names: str) -> list[System]:
    """Return the systems that a comma-separated list names, with or without their variant.

    Raises:
        ValueError: A name fits no system.
    """
    if not names:
        return [system for system in SYSTEMS if system.is_default]
    wanted = names.split(",")
    for name in wanted:
        if all(name not in {system.name, system.adapter} for system in SYSTEMS):
            known = ", ".join(system.name for system in SYSTEMS)
            raise ValueError(f"Unknown system {name!r}; there are: {known}.")
    return [
        system
        for system in SYSTEMS
        if system.name in wanted or (system.is_default and system.adapter in wanted)
    ]

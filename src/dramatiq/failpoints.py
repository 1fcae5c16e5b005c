"""Places where tests make this process die, fail or stop.

Switched on by the environment variable ``DRAMATIQ_FAILPOINTS`` alone, which is read once:
``name=action`` pairs separated by commas, where the action is ``kill`` (as the kernel would),
``raise`` (an OSError), or ``stop`` (SIGSTOP, until somebody sends SIGCONT). ``name=kill@3`` acts
at the third hit only. Without the variable a hit costs one look at an empty dictionary.
"""

from __future__ import annotations

import os
import signal
from threading import Lock

from .logging import get_logger

__all__ = ["hit"]

#: The environment variable that arms failpoints.
VARIABLE = "DRAMATIQ_FAILPOINTS"
#: What can happen at one.
ACTIONS = ("kill", "raise", "stop")


def _parse(text: str) -> dict[str, tuple[str, int]]:
    """Return the action for each name, and at which hit it is due; 0 stands for every hit."""
    armed = {}
    for pair in filter(None, text.split(",")):
        name, _, action = pair.partition("=")
        action, _, number = action.partition("@")
        if action not in ACTIONS or not (number or "0").isdecimal():
            raise ValueError(
                f"{VARIABLE}: {pair!r} must be name=kill, name=raise or name=stop, "
                "with @3 behind it for the third hit only."
            )
        armed[name.strip()] = (action, int(number or 0))
    return armed


_armed = _parse(os.environ.get(VARIABLE, ""))
_hits: dict[str, int] = {}
_lock = Lock()


def hit(name: str) -> None:
    """Do what was asked for at this place; usually nothing. Any thread.

    Raises:
        OSError: If that was asked for.
    """
    if _armed and name in _armed:
        _act(name)


def _act(name: str) -> None:
    action, due = _armed[name]
    with _lock:
        _hits[name] = count = _hits.get(name, 0) + 1
    if due and count != due:
        return
    get_logger("dramatiq.failpoints").warning("Failpoint %s: %s.", name, action)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        raise OSError(f"failpoint {name}")

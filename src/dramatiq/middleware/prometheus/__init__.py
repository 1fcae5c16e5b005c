"""Count and time messages for Prometheus, and serve the figures of all processes of a program.

Each worker process keeps its figures in files of its own (`metrics`, `hooks`, `sampling`), so that
they survive it. One more process of the program adds up those files (`store`), asks the broker
about the queues (`queues`) and answers Prometheus (`exposition`).
"""

from __future__ import annotations

from .hooks import Prometheus

__all__ = ["Prometheus"]


def _run_exposition_server() -> int:
    """Serve the figures of this program until interrupted; see `exposition.run`."""
    from .exposition import run  # workers do not need it

    return run()

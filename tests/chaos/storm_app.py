"""The application of the kill storm, run by the real command line."""

from __future__ import annotations

import os
import time

import dramatiq
from tests.chaos.program import make_broker, write_line

# Collecting doctests imports this file too.
broker = make_broker(os.environ.get("STORM_DATABASE", "storm.db"))
dramatiq.set_broker(broker)


@dramatiq.actor
def work(number: int, duration_ms: int) -> None:
    """Write down that it starts, take a while, write down that it ends."""
    write_line(os.environ["STORM_LEDGER"], "start", number)
    time.sleep(duration_ms / 1000)
    write_line(os.environ["STORM_LEDGER"], "end", number)

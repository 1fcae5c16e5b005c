"""The application of the tests that run the real command line."""

from __future__ import annotations

import os

import dramatiq
from tests.chaos.program import declare, make_broker

# Collecting doctests imports this file too.
broker = make_broker(os.environ.get("STORM_DATABASE", "storm.db"))
dramatiq.set_broker(broker)
declare(broker, os.environ.get("STORM_LEDGER", "ledger"))

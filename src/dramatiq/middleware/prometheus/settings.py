"""What the environment says about metrics. Read once, at import, as 2.x does."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from ...common import getenv_int

__all__ = ["ASKS_BROKER", "DB_PATH", "HTTP_HOST", "HTTP_PORT", "PATIENCE_S", "announce_folder"]

#: Where processes leave their figures.
DB_PATH = Path(
    os.getenv("dramatiq_prom_db")  # noqa: SIM112 (as 2.x has it)
    or Path(tempfile.gettempdir()) / "dramatiq-prometheus"
)
#: Where the exposition server listens.
HTTP_HOST = os.getenv("dramatiq_prom_host") or "0.0.0.0"  # noqa: S104, SIM112 (as 2.x has it)
HTTP_PORT = getenv_int("dramatiq_prom_port") or 9191
#: Whether the exposition server imports the application, to ask its broker about the queues.
ASKS_BROKER = getenv_int("dramatiq_prom_queues") != 0
#: Seconds without a look for messages after which a queue stands still. Beyond those for which a
#: look that finds nothing waits.
PATIENCE_S = (getenv_int("dramatiq_prom_patience") or 15_000) / 1000
PATIENCE_S += (getenv_int("dramatiq_worker_timeout") or 1000) / 1000

# Without it metrics are off, and `after_process_boot` says so.
with suppress(OSError):
    DB_PATH.mkdir(parents=True, exist_ok=True)


def announce_folder() -> None:
    """Tell the client library, and what else asks, where the figures are."""
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ[name] = str(DB_PATH)

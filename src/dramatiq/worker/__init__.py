"""Runs messages: consumer threads fetch and settle, worker threads and an event loop run.

The constants here are read when they are used, so that they may be patched.
"""

from __future__ import annotations

from ..common import getenv_int

#: Milliseconds before a consumer that failed is started again.
CONSUMER_RESTART_DELAY = getenv_int("dramatiq_restart_delay") or 3000
#: The same in seconds; this is the one that is used.
CONSUMER_RESTART_DELAY_SECS = CONSUMER_RESTART_DELAY / 1000
#: Seconds before settling is tried again after the connection was lost.
POST_PROCESS_MESSAGE_RETRY_DELAY_SECS = 5
#: Messages per queue and process, running ones included; 0 leaves it to the worker.
QUEUE_PREFETCH = getenv_int("dramatiq_queue_prefetch") or 0
#: Messages per delay queue and process; 0 leaves it to the worker.
DELAY_QUEUE_PREFETCH = getenv_int("dramatiq_delay_queue_prefetch") or 0
#: Milliseconds a thread waits for work before it looks around.
WORKER_TIMEOUT: int = getenv_int("dramatiq_worker_timeout") or 1000

from .consumer import ConsumerThread  # noqa: E402 (the constants come first)
from .processing import has_results_middleware  # noqa: E402
from .threads import WorkerThread  # noqa: E402
from .work_queue import _WorkQueueItem  # noqa: E402
from .worker import Worker, _WorkerMiddleware  # noqa: E402

#: Our own, to notice when a tracing tool has wrapped it.
PROCESS_MESSAGE = WorkerThread.process_message

_ConsumerThread = ConsumerThread
_WorkerThread = WorkerThread

__all__ = [
    "CONSUMER_RESTART_DELAY",
    "CONSUMER_RESTART_DELAY_SECS",
    "DELAY_QUEUE_PREFETCH",
    "POST_PROCESS_MESSAGE_RETRY_DELAY_SECS",
    "QUEUE_PREFETCH",
    "WORKER_TIMEOUT",
    "ConsumerThread",
    "Worker",
    "WorkerThread",
    "_ConsumerThread",
    "_WorkQueueItem",
    "_WorkerMiddleware",
    "_WorkerThread",
    "has_results_middleware",
]

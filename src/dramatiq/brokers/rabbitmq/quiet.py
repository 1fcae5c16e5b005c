"""Keeping pika from saying what our errors say, nine times each."""

from __future__ import annotations

import logging

__all__ = ["LOCK_SUFFIX", "THREAD_PREFIX", "drop_broken_pipes", "quieten"]

#: Threads whose names begin like this are ours: what happens there reaches callers as an error.
THREAD_PREFIX = "rabbitmq-"
#: The end of the name of a queue that stands for a lock; that somebody else has it is no news.
LOCK_SUFFIX = ".visited"
#: Where pika speaks of connections.
_LOGGERS = (
    "pika.adapters.base_connection",
    "pika.adapters.utils.connection_workflow",
    "pika.adapters.utils.io_services_utils",
    "pika.channel",
    "pika.connection",
    "pika.heartbeat",
)


class _NotFromOurThreads(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        is_ours = str(record.threadName).startswith(THREAD_PREFIX)
        return not is_ours and LOCK_SUFFIX not in record.getMessage()


class _NoBrokenPipes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "Broken pipe" not in record.getMessage()


# A filter that is there already is not added again.
_not_from_our_threads = _NotFromOurThreads()
_no_broken_pipes = _NoBrokenPipes()


def quieten() -> None:
    """Drop what pika logs about the connections of this library, which are told of in errors."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_not_from_our_threads)


def drop_broken_pipes() -> None:
    """Drop what pika logs about blocking connections that the other side has closed."""
    for name in ("pika.adapters.base_connection", "pika.adapters.utils.io_services_utils"):
        logging.getLogger(name).addFilter(_no_broken_pipes)

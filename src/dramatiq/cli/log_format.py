"""Log records as JSON, one object per line: for `--log-format json`."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from ..middleware import CurrentMessage
from .log_pipes import LineStream

if TYPE_CHECKING:
    from typing import TextIO

    from ..broker import Broker, MessageProxy


#: The attribute of a proxy that holds which attempt is made of its message.
_ATTEMPT = "_log_attempt"


class LogContext(CurrentMessage):
    """Remembers which message is being processed, for the records that are logged meanwhile."""

    # Its own: that of the base class says whether the application has added the middleware.
    _current: contextvars.ContextVar[MessageProxy | None] = contextvars.ContextVar(
        "dramatiq_log_context", default=None
    )

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Remember the message, and which attempt this is: once it has failed, it says the next."""
        super().before_process_message(broker, message)
        retries = message.options.get("retries")
        vars(message)[_ATTEMPT] = retries + 1 if isinstance(retries, int) else 1


class JSONFormatter(logging.Formatter):
    """Makes one JSON object of a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object on a single line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        message = LogContext.get_current_message()
        if message is not None:
            fields["message_id"] = message.message_id
            fields["actor"] = message.actor_name
            fields["queue"] = message.queue_name
            fields["attempt"] = vars(message).get(_ATTEMPT, 1)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json.dumps(fields, default=str)


class PrintedLines(LineStream):
    """Standard output as records: each line that is printed becomes one.

    Args:
        target: Takes the encoded records.
        name: Of the logger that the records name.
    """

    def __init__(self, target: LineStream, name: str) -> None:
        super().__init__(target._pipe)
        self._name = name
        self._formatter = JSONFormatter()

    def close(self) -> None:
        """Do nothing: the pipe is the target's, and in use after this stream is forgotten."""

    def _send(self, text: str) -> None:
        for line in text.splitlines():
            if line:
                record = logging.LogRecord(self._name, logging.INFO, "", 0, line, None, None)
                self._pipe.send_bytes(self._formatter.format(record).encode() + b"\n")


def replace_standard_streams(stream: LineStream) -> None:
    """Turn what is printed into records, too."""
    sys.stdout = cast("TextIO", PrintedLines(stream, "stdout"))
    sys.stderr = cast("TextIO", PrintedLines(stream, "stderr"))


def add_context(broker: Broker) -> None:
    """Have records tell which message they are about, those of other middleware included."""
    middleware = LogContext()
    if broker.middleware:
        # The first one is called first before and last after.
        broker.add_middleware(middleware, before=type(broker.middleware[0]))
    else:
        broker.add_middleware(middleware)


def describe_gap(dropped: int) -> str:
    """Return the record that stands for lines that were dropped."""
    text = f"{dropped} lines of the log were dropped here, because they could not be written."
    record = logging.LogRecord("dramatiq", logging.WARNING, "", 0, text, None, None)
    return JSONFormatter().format(record)

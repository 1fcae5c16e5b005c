"""The process that answers Prometheus: adds up the files of the workers, asks about the queues.

The main thread binds, imports the application and then waits. Each request has a thread.
"""

from __future__ import annotations

import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from ...logging import get_logger
from . import settings
from .health import find_problems
from .queues import QueueFigures
from .store import Store, merge

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["run"]

#: Seconds after which a port that was taken is tried again.
BIND_AGAIN_S = 2.0
#: Seconds for which a client may say nothing.
CLIENT_TIMEOUT_S = 10.0
#: An exit code with which a fork process is not started again.
RET_HOPELESS = 2
#: The name of a process in its files; people know its id.
_PROCESS = re.compile(r"\d+x\d+-(\d+)x\d+")

logger = get_logger("dramatiq.middleware.prometheus", "Exposition")


class FileFigures:
    """Collects what the files of a program say.

    Args:
        store: The files.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Any]:
        """Return the metrics, added up over all processes."""
        with self._store.reading() as files:
            metrics = merge(files)
        for metric in metrics:
            metric.samples = [_readable(each) for each in metric.samples]
            # Of a queue for which nobody is expected to look: all its workers are stopping.
            metric.samples = [each for each in metric.samples if not _is_endless(metric, each)]
        return metrics


def _readable(sample: Any) -> Any:
    found = _PROCESS.fullmatch(sample.labels.get("pid", ""))
    return sample if found is None else sample._replace(labels=sample.labels | {"pid": found[1]})


def _is_endless(metric: Any, sample: Any) -> bool:
    return bool(metric.type == "gauge" and sample.value == float("inf"))


class Handler(BaseHTTPRequestHandler):
    """Answers one request: ``/healthz``, and the metrics for any other path."""

    server: Server
    timeout = CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer."""
        try:
            if self.path.partition("?")[0].rstrip("/") == "/healthz":
                self._answer_health()
            else:
                self._answer(200, self.server.generate(), self.server.content_type)
        except ConnectionError:
            return  # it was given up meanwhile
        except Exception:
            logger.exception("Unexpected failure while answering %r.", self.path)
            self._answer_text(500, "Unexpected failure; see the log.")

    def _answer_health(self) -> None:
        problems = find_problems(self.server.store)
        if problems:
            self._answer_text(503, "\n".join(problems))
        else:
            self._answer_text(200, "Every queue is being fetched from.")

    def _answer_text(self, status: int, text: str) -> None:
        self._answer(status, f"{text}\n".encode(), "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (as the base has it)
        """Say nothing: somebody asks every few seconds."""


class Server(ThreadingHTTPServer):
    """Listens on a host and port.

    Raises:
        OSError: If that is not possible.
    """

    daemon_threads = True

    def __init__(self, store: Store, queues: QueueFigures) -> None:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST

        host, port = settings.HTTP_HOST, settings.HTTP_PORT
        [found, *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.address_family = found[0]
        super().__init__((host, port), Handler)
        self.store = store
        self.content_type = CONTENT_TYPE_LATEST
        self._registry = CollectorRegistry()
        self._registry.register(FileFigures(store))
        self._registry.register(queues)

    def generate(self) -> bytes:
        """Return all metrics as text."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


def run() -> int:
    """Serve until interrupted.

    Returns:
        An exit code, if there is nothing to serve with.
    """
    store = _open_store()
    if store is None:
        return RET_HOPELESS
    queues = QueueFigures()
    server = _bind(store, queues)
    thread = threading.Thread(target=server.serve_forever, name="metrics-server", daemon=True)
    thread.start()
    logger.info("Metrics are at http://%s:%d/metrics", settings.HTTP_HOST, settings.HTTP_PORT)
    try:
        if settings.ASKS_BROKER:
            queues.load()
        threading.Event().wait()
    finally:
        server.shutdown()
        server.server_close()
    return 0


def _open_store() -> Store | None:
    """Return the files of this program; None if there are none, and the log says what to do."""
    try:
        from prometheus_client import values

        store = Store.of_this_process(settings.DB_PATH)
    except ImportError as error:
        logger.error(  # noqa: TRY400 (where it was imported tells nothing)
            "Cannot serve metrics: %s. Install what it needs: pip install 'dramatiq[prometheus]'",
            error,
        )
        return None
    except OSError as error:
        logger.error(  # noqa: TRY400 (the text says all)
            "Cannot serve metrics: %s. Set dramatiq_prom_db to a folder that can be written to.",
            error,
        )
        return None
    settings.announce_folder()
    if not store.has_values:
        # What the application counts while it is imported here is of no interest.
        values.ValueClass = values.MutexValue
    return store


def _bind(store: Store, queues: QueueFigures) -> Server:
    """Listen; wait as long as that is not possible, for others may end or addresses appear."""
    is_told = False
    while True:
        try:
            return Server(store, queues)
        except OSError as error:
            if not is_told:
                logger.error(  # noqa: TRY400 (the text says all)
                    "Cannot serve metrics on %s, port %d: %s. Is another program there, or this "
                    "one a second time? Give each a port of its own: dramatiq_prom_port (host: "
                    "dramatiq_prom_host). Trying again every %d s; messages are run meanwhile.",
                    settings.HTTP_HOST,
                    settings.HTTP_PORT,
                    error.strerror or error,
                    BIND_AGAIN_S,
                )
                is_told = True
        store.tidy()
        threading.Event().wait(BIND_AGAIN_S)

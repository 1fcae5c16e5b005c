"""Where the messages of one run are kept: a file, or a server that only this run uses."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from .processes import cpu_seconds

__all__ = [
    "PostgresStore",
    "RabbitmqStore",
    "RedisStore",
    "SQLiteStore",
    "Store",
    "find_redis_server",
    "open_store",
]

#: Seconds a server gets to start, to answer and to stop.
SERVER_TIMEOUT_S = 20
#: The same for the start of RabbitMQ, whose virtual machine takes its time.
RABBITMQ_TIMEOUT_S = 60
#: Debian's own is a wrapper that changes the user.
RABBITMQ_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
#: Seconds between two tries to reach a server that starts.
START_INTERVAL_S = 0.01
#: Durable as most deployments are, without snapshots; and no rewriting of the file in the
#: background, which would fall on whichever system happens to run.
REDIS_CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir {folder}
appendonly yes
appendfsync everysec
auto-aof-rewrite-percentage 0
save ""
"""


class Store(Protocol):
    """What a session needs of a store.

    Attributes:
        address: What adapters open.
    """

    address: str

    def is_free(self) -> bool:
        """Tell whether nobody has it locked."""

    def usage(self) -> dict[str, float]:
        """Return what the store has used so far, by metric; empty for what nobody counts."""

    def commands_per_second(self, seconds: float) -> float:
        """Watch for that long how many commands clients send."""

    def close(self) -> None:
        """Free what it holds."""


class SQLiteStore:
    """A database file. Its work is done by those who use it, and counted as theirs.

    Args:
        folder: Where the file will be.
    """

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "store.db")

    def is_free(self) -> bool:
        """Tell whether nobody has it locked."""
        connection = sqlite3.connect(self.address, timeout=0.1, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        else:
            return True
        finally:
            connection.close()

    def usage(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def commands_per_second(self, seconds: float) -> float:
        """Refuse: nobody sees them."""
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing: the folder is removed by its owner."""


class RedisStore:
    """A Redis server on a free port of the loopback interface.

    Args:
        folder: Where its data and its log will be.
    """

    def __init__(self, folder: Path) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            self._port = listener.getsockname()[1]
        self.address = f"redis://127.0.0.1:{self._port}/0"
        configuration = folder / "redis.conf"
        configuration.write_text(REDIS_CONFIGURATION.format(port=self._port, folder=folder))
        with (folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(
                [find_redis_server(), configuration], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._connection = self._connect()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        self._answers = self._connection.makefile("rb")

    def is_free(self) -> bool:
        """Tell that nobody can lock it."""
        return True

    def usage(self) -> dict[str, float]:
        """Return the processor time of the server in µs, and what it has read from clients.

        One read takes what a client has sent so far, 16 KiB at most, so reads count round trips:
        a pipeline or a script is one, however many commands it has (``total_commands_processed``
        also counts those that scripts run). Asking is one more read.
        """
        self._connection.sendall(b"INFO stats\r\n")
        size = int(self._answers.readline()[1:])
        answer = self._answers.read(size + len(b"\r\n"))
        reads = answer.partition(b"\r\ntotal_reads_processed:")[2].partition(b"\r\n")[0]
        return {"redis_us": cpu_seconds([self._process.pid]) * 1e6, "trips": int(reads)}

    def commands_per_second(self, seconds: float) -> float:
        """Watch for that long how many commands clients send; those of scripts do not count."""
        lines = b""
        with closing(self._connect()) as connection:
            connection.sendall(b"MONITOR\r\n")
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                try:
                    lines += connection.recv(65536)
                except TimeoutError:
                    break
        commands = [line for line in lines.split(b"\r\n")[1:] if line and b" lua] " not in line]
        return len(commands) / seconds

    def close(self) -> None:
        """End the server."""
        self._answers.close()
        self._connection.close()
        self._process.kill()
        self._process.wait(SERVER_TIMEOUT_S)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + SERVER_TIMEOUT_S
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", self._port), SERVER_TIMEOUT_S)
            except ConnectionRefusedError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(START_INTERVAL_S)
            else:
                return connection


class RabbitmqStore:
    """A RabbitMQ node on free ports of the loopback interface, with an epmd of its own.

    Args:
        folder: Where its data, its cookie and its log will be.
    """

    def __init__(self, folder: Path) -> None:
        port, epmd_port, distribution_port = (_free_port() for _ in range(3))
        self.address = f"amqp://guest:guest@127.0.0.1:{port}/%2F"
        self._processes: list[subprocess.Popen[bytes]] = []
        (folder / ".erlang.cookie").write_text("for-benchmarks-only")
        (folder / ".erlang.cookie").chmod(0o400)
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.file = false\n"
        )
        variables = os.environ | {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": f"benchmark{port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        }
        epmd = ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"]
        with (folder / "rabbitmq.log").open("wb") as log:
            for command in (epmd, [RABBITMQ_SERVER]):
                self._processes.append(
                    subprocess.Popen(
                        command, env=variables, stdout=log, stderr=log, start_new_session=True
                    )
                )
        try:
            self._wait_for_answer(port)
        except BaseException:
            self.close()
            raise

    def _wait_for_answer(self, port: int) -> None:
        deadline = time.monotonic() + RABBITMQ_TIMEOUT_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    connection.sendall(b"AMQP\x00\x00\x09\x01")
                    if connection.recv(1):
                        return
            except OSError:
                if self._processes[-1].poll() is not None or time.monotonic() > deadline:
                    raise
            time.sleep(10 * START_INTERVAL_S)

    def is_free(self) -> bool:
        """Tell that nobody can lock it."""
        return True

    def usage(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def commands_per_second(self, seconds: float) -> float:
        """Refuse: it does not tell."""
        raise NotImplementedError

    def close(self) -> None:
        """End the server, the shell it was started by, and its epmd."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(SERVER_TIMEOUT_S)


class PostgresStore:
    """A PostgreSQL server with its default settings on a free port of the loopback interface.

    Args:
        folder: Where its log will be. Its data are elsewhere: it refuses to run as root, and
            nobody else may enter that folder.
    """

    def __init__(self, folder: Path) -> None:
        port = _free_port()
        self.address = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        user = "postgres" if os.getuid() == 0 else None
        self._home = Path(tempfile.mkdtemp(prefix="benchmark-postgres-"))
        if user:
            shutil.chown(self._home, user)
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        data = str(self._home / "data")
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"],
            user=user,
            cwd=self._home,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        settings = [f"-cport={port}", "-clisten_addresses=127.0.0.1", "-cunix_socket_directories="]
        with (folder / "postgres.log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", data, *settings],
                user=user,
                cwd=self._home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_for_answer(programs / "pg_isready", port)

    def _wait_for_answer(self, program: Path, port: int) -> None:
        deadline = time.monotonic() + SERVER_TIMEOUT_S
        command = [program, "-q", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(command, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise TimeoutError("PostgreSQL does not answer.")
            time.sleep(START_INTERVAL_S)

    def is_free(self) -> bool:
        """Tell that nobody can lock it."""
        return True

    def usage(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def commands_per_second(self, seconds: float) -> float:
        """Refuse: it does not tell."""
        raise NotImplementedError

    def close(self) -> None:
        """End the server and remove its data."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(SERVER_TIMEOUT_S)
        shutil.rmtree(self._home, ignore_errors=True)


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def find_redis_server() -> str:
    """Return the path of the program.

    Raises:
        FileNotFoundError: It is not installed.
    """
    # Debian keeps some servers where only root looks.
    path = shutil.which(
        "redis-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    )
    if path is None:
        raise FileNotFoundError("redis-server is missing; measure --peers sqlite without it.")
    return path


def open_store(kind: str, folder: Path) -> Store:
    """Return a fresh store of that kind: ``sqlite``, ``redis``, ``rabbitmq`` or ``postgres``."""
    kinds: dict[
        str, type[SQLiteStore] | type[RedisStore] | type[RabbitmqStore] | type[PostgresStore]
    ] = {
        "sqlite": SQLiteStore,
        "postgres": PostgresStore,
        "rabbitmq": RabbitmqStore,
        "redis": RedisStore,
    }
    return kinds[kind](folder)

"""Real servers for tests: each on free loopback ports, with its data in a temporary folder.

A server can be killed and started again on the same port with the same data. Nothing here knows
the library.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

#: Seconds a server may take to answer after its start.
START_DEADLINE_S = 20.0
#: Debian's package for each program.
PACKAGES = {
    "redis-server": "redis-server",
    "redis-sentinel": "redis-sentinel",
    "memcached": "memcached",
}


def free_port():
    """Return a port of the loopback interface that nobody listens on."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def find_program(name):
    """Return the path of a server's program; fail with what to install."""
    # Debian keeps some of them where only root looks.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        pytest.fail(f"{name} is missing: install Debian's package {PACKAGES[name]}", pytrace=False)
    return path


class Server:
    """One server process.

    Args:
        directory: Where its data, configuration and log live; made if it is missing.
        port: Where it listens; a free one by default.
    """

    program = ""

    def __init__(self, directory, port=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.process = None

    def command(self):
        raise NotImplementedError

    def is_ready(self):
        """Tell whether it answers."""
        raise NotImplementedError

    @property
    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def start(self):
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{self.program} did not start:\n{self.log[-4000:]}")
            time.sleep(0.01)
        return self

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        """End it as the kernel would: no time to save anything."""
        self._end(signal.SIGKILL)

    def stop(self):
        self._end(signal.SIGTERM)

    def restart(self):
        """Kill it, if it runs, and start it again with the same data."""
        self.kill()
        return self.start()

    def _end(self, number):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        try:
            self.process.wait(START_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(START_DEADLINE_S)
        self.process = None

    def talk(self, request, size=65536):
        """Send bytes over a connection of their own and return the first answer."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=5)) as connection:
            connection.sendall(request)
            return connection.recv(size)


class RedisServer(Server):
    """A Redis server that writes every change to its append-only file.

    Args:
        options: Its configuration, ``maxmemory="4mb"`` for example; ``None`` leaves one out.
    """

    program = "redis-server"

    def __init__(self, directory, port=None, **options):
        super().__init__(directory, port)
        self.options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": "redis.sock",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "dir": ".",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self):
        return f"unix://{self.directory / 'redis.sock'}"

    def command(self):
        lines = [f"{name} {value}\n" for name, value in self.options.items() if value is not None]
        (self.directory / "redis.conf").write_text("".join(lines))
        return [find_program(self.program), "redis.conf"]

    def is_ready(self):
        try:
            return self.talk(b"PING\r\n").startswith(b"+PONG")
        except OSError:
            return False

    def client(self, **options):
        """Return a client that waits at most five seconds for anything."""
        import redis

        options = {"socket_timeout": 5, "socket_connect_timeout": 5, **options}
        return redis.Redis(host="127.0.0.1", port=self.port, **options)


class SentinelServer(Server):
    """A sentinel that watches one Redis server by the name ``mymaster``."""

    program = "redis-sentinel"

    def __init__(self, directory, master_port, port=None, *, quorum=1, down_after_ms=1000):
        super().__init__(directory, port)
        (self.directory / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir .\n"
            f"sentinel monitor mymaster 127.0.0.1 {master_port} {quorum}\n"
            f"sentinel down-after-milliseconds mymaster {down_after_ms}\n"
            "sentinel failover-timeout mymaster 5000\n"
        )

    def command(self):
        return [find_program(self.program), "sentinel.conf"]

    def is_ready(self):
        try:
            return self.talk(b"PING\r\n").startswith(b"+PONG")
        except OSError:
            return False


class MemcachedServer(Server):
    """A memcached server."""

    program = "memcached"

    def command(self):
        return [
            *(find_program(self.program), "-l", "127.0.0.1", "-p", str(self.port)),
            *("-U", "0", "-u", "nobody"),
        ]

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def is_ready(self):
        try:
            return self.talk(b"version\r\n").startswith(b"VERSION")
        except OSError:
            return False

"""Real servers for tests: each on free loopback ports, with its data in a temporary folder.

A server can be killed and started again on the same port with the same data. Nothing here knows
the library.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pytest

#: Seconds a server may take to answer after its start.
START_DEADLINE_S = 20.0
#: The same for RabbitMQ, whose virtual machine takes its time.
RABBITMQ_START_DEADLINE_S = 50.0
#: How many ports a process takes at once: about as many as a whole run needs.
PORTS_IN_BLOCK = 200
#: Debian's package for each program.
PACKAGES = {
    "redis-server": "redis-server",
    "redis-sentinel": "redis-sentinel",
    "memcached": "memcached",
    "rabbitmq-server": "rabbitmq-server",
    "epmd": "erlang-base",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "pgbouncer": "pgbouncer",
    "postgres": "postgresql",
}


def free_port():
    """Return a port of the loopback interface that nobody listens on, and nobody else is given.

    It is below 20,000, where the kernel takes none for clients: a server that is down finds its
    port free when it comes back. The port 10,000 above, which a node of a Redis cluster and
    RabbitMQ's tools use too, exists and is not given to anybody either.
    """
    return next(port for port in _PORTS if _is_free(port))


def _ports():
    """Yield the ports of this process: blocks of which it is the only owner on this machine."""
    blocks = list(range(10_000, 20_000, PORTS_IN_BLOCK))
    random.SystemRandom().shuffle(blocks)
    for block in blocks:
        # A name in the kernel is owned by one socket at most, and is free when its owner is gone.
        owner = socket.socket(socket.AF_UNIX)
        try:
            owner.bind(f"\0dramatiq-tests-ports-{block}")
        except OSError:
            owner.close()
            continue
        _OWNED_BLOCKS.append(owner)
        yield from range(block, block + PORTS_IN_BLOCK)
    pytest.fail("all ports from 10,000 to 20,000 are in use", pytrace=False)


_OWNED_BLOCKS = []
_PORTS = _ports()


def _is_free(port):
    with closing(socket.socket()) as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


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
    start_deadline_s = START_DEADLINE_S

    def __init__(self, directory, port=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.process = None

    def command(self):
        raise NotImplementedError

    def environment(self):
        """Return what it needs beside our own environment."""
        return {}

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
                env={**os.environ, **self.environment()},
                start_new_session=True,
            )
        deadline = time.monotonic() + self.start_deadline_s
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


class PrometheusServer(Server):
    """A Prometheus that asks one target for its metrics again and again."""

    program = "prometheus"
    #: Seconds between two scrapes.
    interval_s = 0.5

    def __init__(self, directory, target, port=None):
        super().__init__(directory, port)
        (self.directory / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {int(self.interval_s * 1000)}ms}}\n"
            "scrape_configs: [{job_name: dramatiq, static_configs: "
            f"[{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        )

    def command(self):
        return [
            *(find_program(self.program), "--config.file=prometheus.yml"),
            *(f"--web.listen-address=127.0.0.1:{self.port}", "--storage.tsdb.path=data"),
        ]

    def is_ready(self):
        try:
            return b" 200 " in self.talk(b"GET /-/ready HTTP/1.0\r\n\r\n")
        except OSError:
            return False

    def ask(self, expression):
        """Return the series that an expression gives now."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=10
        ) as answer:
            return json.load(answer)["data"]["result"]


class PostgresServer(Server):
    """A PostgreSQL server with one database, which survives everything but a loss of power.

    Args:
        options: Its settings, ``max_connections=20`` for example.
    """

    def __init__(self, directory, port=None, **options):
        super().__init__(directory, port)
        # It refuses to run as root, and others may not enter the folders of tests.
        self.user = "postgres" if os.getuid() == 0 else None
        self.home = Path(tempfile.mkdtemp(prefix="dramatiq-postgres-"))
        if self.user:
            shutil.chown(self.home, self.user)
        self.options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "64MB",
            **options,
        }

    @property
    def program(self):
        return find_postgres("postgres")

    @property
    def url(self):
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def data(self):
        return self.home / "data"

    def command(self):
        if not self.data.exists():
            subprocess.run(
                [
                    *(find_postgres("initdb"), "--pgdata", self.data, "--username", "postgres"),
                    *("--auth", "trust", "--no-sync", "--encoding", "UTF8", "--locale", "C"),
                ],
                user=self.user,
                cwd=self.home,
                check=True,
                capture_output=True,
                timeout=self.start_deadline_s * 3,
            )
        settings = (f"--{name}={value}" for name, value in self.options.items())
        runs_as = ["setpriv", "--reuid", self.user, "--clear-groups", "--"] if self.user else []
        return [*runs_as, self.program, "-D", str(self.data), *settings]

    def is_ready(self):
        import psycopg

        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url, connect_timeout=2).close()
            return True
        return False

    def connect(self):
        """Return a connection in autocommit mode."""
        import psycopg

        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)

    def close(self):
        """End it for good."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def processes(self):
        """Return the numbers of its processes; what serves a session is one of its own."""
        found = [self.process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if stat.read_text().rpartition(")")[2].split()[1] == str(self.process.pid):
                    found.append(int(stat.parent.name))
        return found

    def send(self, number):
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end(self, number):
        sessions = []
        if self.process is not None and self.process.poll() is None:
            _, *sessions = self.processes()
            self.send(signal.SIGKILL if number == signal.SIGKILL else signal.SIGCONT)
        # "Fast": without waiting for clients.
        super()._end(signal.SIGINT if number == signal.SIGTERM else number)
        # It does not start again while one of them still has its memory.
        deadline = time.monotonic() + self.start_deadline_s
        while any(Path(f"/proc/{pid}").exists() for pid in sessions):
            if time.monotonic() > deadline:
                raise AssertionError(f"processes of PostgreSQL do not end: {sessions}")
            time.sleep(0.01)


class PgBouncer(Server):
    """A pooler in front of a PostgreSQL server, which gives each transaction some session of it."""

    program = "pgbouncer"

    def __init__(self, directory, server, port=None, **options):
        super().__init__(directory, port)
        self.user = server.user
        self.home = Path(tempfile.mkdtemp(prefix="dramatiq-pgbouncer-"))
        self.options = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self.home / "users",
            "pool_mode": "transaction",
            **options,
        }
        lines = [f"{name} = {value}\n" for name, value in self.options.items()]
        (self.home / "users").write_text('"postgres" ""\n')
        (self.home / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n{''.join(lines)}"
        )
        if self.user:
            for path in (self.home, *self.home.iterdir()):
                shutil.chown(path, self.user)

    @property
    def url(self):
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def command(self):
        runs_as = ["setpriv", "--reuid", self.user, "--clear-groups", "--"] if self.user else []
        return [*runs_as, find_program(self.program), str(self.home / "pgbouncer.ini")]

    def is_ready(self):
        import psycopg

        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url, connect_timeout=2).close()
            return True
        return False

    def close(self):
        """End it for good."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def find_postgres(name):
    """Return the path of one of PostgreSQL's programs, which Debian keeps apart by version."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4])
    )
    return str(found[-1]) if found else find_program(name)


class RabbitmqServer(Server):
    """A RabbitMQ node with a name, a data folder, an Erlang cookie and an epmd of its own.

    Args:
        epmd: That of another node, with which it is to make a cluster.
        options: Lines of its configuration, by name.
    """

    #: Debian's own is a wrapper that changes the user.
    program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    start_deadline_s = RABBITMQ_START_DEADLINE_S

    def __init__(self, directory, port=None, epmd=None, **options):
        super().__init__(directory, port)
        self.epmd = epmd or Epmd(self.directory / "epmd")
        self.distribution_port = free_port()
        self.options = {
            f"listeners.tcp.{self.port}": f"127.0.0.1:{self.port}",
            "disk_free_limit.absolute": "10MB",
            "log.console": "true",
            "log.file": "false",
            **options,
        }
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text("for-tests-only")
            cookie.chmod(0o400)

    @property
    def url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def node_name(self):
        return f"rabbit{self.port}@localhost"

    def environment(self):
        return {
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self.epmd.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "logs"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "no-environment"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def command(self):
        lines = [f"{name} = {value}\n" for name, value in self.options.items()]
        (self.directory / "rabbitmq.conf").write_text("".join(lines))
        if not Path(self.program).exists():
            find_program("rabbitmq-server")
        return [self.program]

    def is_ready(self):
        try:
            return self.talk(b"AMQP\x00\x00\x09\x01").startswith(b"\x01")
        except OSError:
            return False

    def start(self):
        if self.epmd.process is None:
            self.epmd.start()
        return super().start()

    def run(self, command, *arguments):
        """Run one of its own command line tools and return what it prints."""
        done = subprocess.run(
            [f"/usr/lib/rabbitmq/bin/{command}", "--quiet", "-n", self.node_name, *arguments],
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            timeout=self.start_deadline_s,
            check=True,
        )
        return done.stdout

    def join(self, other):
        """Become a node of the cluster of another one."""
        self.run("rabbitmqctl", "stop_app")
        self.run("rabbitmqctl", "join_cluster", other.node_name)
        self.run("rabbitmqctl", "start_app")

    def close(self):
        """End it for good, its epmd included."""
        self.kill()
        self.epmd.kill()

    def send(self, number):
        # Its first process is a shell, which does not pass signals on.
        os.killpg(self.process.pid, number)

    def _end(self, number):
        if self.process is None:
            return
        if number == signal.SIGTERM:
            self.run("rabbitmqctl", "stop")
        else:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(START_DEADLINE_S)
        self.process = None


class Epmd(Server):
    """The daemon by which Erlang's nodes find one another."""

    program = "epmd"

    def command(self):
        return [find_program(self.program), "-port", str(self.port), "-address", "127.0.0.1"]

    def is_ready(self):
        try:
            return bool(self.talk(b"\x00\x01n"))
        except OSError:
            return False

"""Workers whose threads are greenlets: `dramatiq-gevent` as it is installed, on real servers."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import dramatiq_gevent

from .conftest import eventually

SCRIPT = Path(sys.executable).with_name("dramatiq-gevent")

APPLICATION = """\
import asyncio, os, sys, threading, time
import dramatiq
{broker}
dramatiq.set_broker(broker)


def interrupted(name):
    print(name, type(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]).__name__)


"""
ON_SQLITE = "from dramatiq.brokers.sqlite import SQLiteBroker\nbroker = SQLiteBroker('queue.db')"
ON_REDIS = (
    "from dramatiq.brokers.redis import RedisBroker\n"
    "broker = RedisBroker(port={port}, namespace={namespace!r})"
)
ON_STUB = """\
from dramatiq.brokers.stub import StubBroker


class AtStart(dramatiq.Middleware):
    def after_worker_boot(self, broker, worker):
        broker.actors["work"].send()


broker = StubBroker()
broker.add_middleware(AtStart())
"""


@pytest.fixture(scope="module", autouse=True)
def _gevent_is_installed():
    if importlib.util.find_spec("gevent") is None:
        message = "gevent is not installed: pip install 'dramatiq[gevent]'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


@pytest.fixture
def write_app(write_module):
    """Write the application ``app``, with its broker and then the source."""

    def write(source, broker=ON_STUB):
        return write_module("app", source, preamble=APPLICATION.format(broker=broker))

    return write


@pytest.fixture(params=["sqlite", "redis"])
def stored(request):
    """Source code that makes a broker whose messages outlive the process."""
    if request.param == "sqlite":
        return ON_SQLITE
    server = request.getfixturevalue("redis_server")
    return ON_REDIS.format(port=server.port, namespace=uuid.uuid4().hex)


@pytest.fixture
def start(run):
    def start(*arguments, **options):
        return run(*arguments, script=SCRIPT, **options).wait_until_ready()

    return start


def execute(program_or_directory, code):
    """Run code in an interpreter of its own, beside the application."""
    directory = getattr(program_or_directory, "directory", program_or_directory)
    subprocess.run([sys.executable, "-c", code], cwd=directory, check=True, timeout=30)


def test_hundreds_of_messages_run_at_the_same_time_in_a_process(write_app, start, stored):
    write_app(
        """
        everybody = threading.Barrier(200)

        @dramatiq.actor
        def meet():
            # Passes when 200 are here at once.
            everybody.wait(20)
            print("met")
        """,
        stored,
    )
    program = start("app", "-p", "1", "-t", "200")

    execute(program, "import app; app.meet.send_many([()] * 200)")

    program.wait_for("met", 200)
    assert program.stop() == 0


def test_a_message_is_interrupted_at_its_time_limit_and_tried_again(write_app, start):
    write_app(
        """
        attempts = []

        @dramatiq.actor(time_limit=100, min_backoff=1, max_backoff=1)
        def work():
            attempts.append(1)
            if len(attempts) == 3:
                print("third attempt")
                return
            try:
                time.sleep(60)
            except BaseException:
                interrupted("work")
                raise
        """
    )

    program = start("app", "-p", "1", "-t", "2").wait_for("third attempt")

    assert program.output.count("work TimeLimitExceeded") == 2
    assert program.output.count("Time limit exceeded. Raising exception in worker greenlet") == 2
    assert program.stop() == 0


def test_a_message_that_ends_in_time_takes_its_timer_with_it(write_app, start):
    write_app(
        """
        @dramatiq.actor(time_limit=300)
        def work():
            later.send()

        @dramatiq.actor(time_limit=60_000)
        def later():
            # On the only greenlet there is, for longer than the limit of the message before.
            time.sleep(0.6)
            print("slept")
        """
    )

    program = start("app", "-p", "1", "-t", "1").wait_for("slept")

    assert "Time limit exceeded" not in program.output
    assert program.stop() == 0


def test_a_message_that_asked_for_it_is_interrupted_at_shutdown(write_app, start):
    write_app(
        """
        @dramatiq.actor(notify_shutdown=True, max_retries=0)
        def work():
            print("started")
            try:
                time.sleep(60)
            except BaseException:
                interrupted("work")
                raise
        """
    )
    program = start("app", "-p", "1", "-t", "2").wait_for("started")

    code = program.stop()

    assert code == 0
    assert "work Shutdown" in program.output


def test_a_graceful_stop_finishes_what_runs_and_gives_back_the_rest(
    write_app, start, stored, tmp_path
):
    write_app(
        """
        def is_open():
            return os.path.exists("open")

        @dramatiq.actor
        def work(number):
            print("began", number)
            while not is_open():
                time.sleep(0.01)
            print("ended", number)
        """,
        stored,
    )
    execute(tmp_path, "import app; app.work.send_many([(number,) for number in range(6)])")
    first = start("app", "-p", "1", "-t", "2").wait_for("began", 2)

    first.send(signal.SIGTERM).wait_for("Shutting down...")
    (tmp_path / "open").touch()

    assert first.wait() == 0
    assert first.output.count("began") == first.output.count("ended") == 2
    second = start("app", "-p", "1", "-t", "2").wait_for("ended", 4)
    assert second.stop() == 0
    numbers = {line.split()[-1] for line in (first.output + second.output).splitlines()}
    assert set("012345") <= numbers


def test_async_actors_run_and_are_cancelled_beside_greenlets(write_app, start):
    write_app(
        """
        @dramatiq.actor(time_limit=200, max_retries=0)
        async def work():
            plain.send()
            try:
                await asyncio.sleep(60)
            except BaseException:
                interrupted("work")
                raise

        @dramatiq.actor
        def plain():
            time.sleep(0.01)
            print("plain ran")
        """
    )

    program = start("app", "-p", "1", "-t", "2")

    program.wait_for("plain ran").wait_for("work CancelledError")
    assert "async actors: on one event loop with 100 slots" in program.output
    assert program.stop() == 0


def test_everything_is_patched_before_the_application_is_imported(write_app, start):
    write_app(
        """
        from gevent import monkey

        @dramatiq.actor
        def work():
            names = ["threading", "select", "socket", "queue", "ssl", "subprocess", "time"]
            print("patched", all(monkey.is_module_patched(name) for name in names))
        """
    )

    program = start("app", "-p", "1", "-t", "1").wait_for("patched True")

    assert program.stop() == 0


def test_a_dead_worker_is_replaced_and_a_reload_starts_new_ones(write_app, start):
    write_app(
        """
        @dramatiq.actor
        def work():
            pass
        """
    )
    program = start("app", "-p", "1", "-t", "1")

    os.kill(program.worker_pids()[0], signal.SIGKILL)
    program.wait_until_ready(2)
    program.send(signal.SIGHUP).wait_until_ready(3)

    assert "Worker 0 " in program.output
    assert "was killed by SIGKILL" in program.output
    assert program.stop() == 0
    pids = program.worker_pids()
    eventually(lambda: len(set(pids)) == 3, "three workers")


def test_a_failed_import_ends_with_its_exit_code(run):
    program = run("nowhere_to_be_found", script=SCRIPT)

    code = program.wait()

    assert code == 2
    assert "Cannot import 'nowhere_to_be_found'" in program.output


def test_where_gevent_is_missing_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gevent", None)

    code = dramatiq_gevent.main()

    assert code == 1
    assert "pip install 'dramatiq[gevent]'" in capsys.readouterr().err


def test_a_python_without_the_gil_is_warned(monkeypatch, capsys):
    monkeypatch.setattr("sysconfig.get_config_var", {"Py_GIL_DISABLED": 1}.get)
    monkeypatch.setattr(sys, "argv", ["dramatiq-gevent", "--version"])

    with pytest.warns(RuntimeWarning, match="GIL"), pytest.raises(SystemExit) as ended:
        dramatiq_gevent.main()

    assert ended.value.code == 0

"""Messages that bring down whoever runs them, under the real program, on SQLite and Redis."""

from __future__ import annotations

import itertools
import os
import signal
import time

import pytest

from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from tests.acceptance.conftest import eventually, is_alive
from tests.rabbitmq import delete_queues, read_all

MODULE = """
import ctypes, os, resource, signal, sys, time
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker

dramatiq.set_broker({broker})


def note(name, text):
    with open(name, "a") as file:
        file.write(f"{{text}}\\n")


@dramatiq.actor
def leave():
    os._exit(0)


@dramatiq.actor
def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor
async def crash():
    ctypes.string_at(0)


@dramatiq.actor(max_retries=1, min_backoff=10, max_backoff=20)
def hog():
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, limits[1]))
    try:
        hoard = []
        while True:
            hoard.append(bytearray(2**22))
    finally:
        del hoard
        resource.setrlimit(resource.RLIMIT_AS, limits)


@dramatiq.actor
def fork_many():
    pids = []
    for _ in range(50):
        pid = os.fork()
        if not pid:
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    note("forked", len(pids))


@dramatiq.actor(max_retries=0)
def leave_daemon():
    if not os.fork():
        note("daemons", os.getpid())
        time.sleep(120)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor
def write(number):
    time.sleep(0.01)
    note("written", number)
"""


@pytest.fixture(params=["sqlite", "redis"])
def broker(request, tmp_path):
    if request.param == "sqlite":
        broker = SQLiteBroker(tmp_path / "queue.db")
        broker.source = "SQLiteBroker('queue.db')"
        yield broker
        broker.close()
    else:
        url = request.getfixturevalue("redis_server").url
        namespace = f"poison-{request.node.name}"
        broker = RedisBroker(url=url, namespace=namespace)
        broker.source = f"RedisBroker(url={url!r}, namespace={namespace!r})"
        yield broker
        broker.close()
        broker.client.close()


@pytest.fixture
def send(broker, write_module):
    """Send messages of actors that only the workers know."""
    from dramatiq import Message

    write_module("app", MODULE.format(broker=broker.source), preamble="")
    broker.declare_queue("default")

    def send(actor_name, *args):
        message = Message("default", actor_name, args, {}, {})
        return broker.enqueue(message)

    return send


def lines(path):
    return path.read_text().split() if path.exists() else []


def is_drained(broker):
    counts = broker.queue_counts("default")
    return not counts.unfinished


@pytest.fixture
def impatient(tmp_path):
    """The program with a fifth of the delay after a second crash."""
    script = tmp_path / "impatient.py"
    script.write_text(
        "import sys\n"
        "from dramatiq.brokers import _store\n"
        "from dramatiq.cli import main\n"
        "_store.CRASH_DELAYS_MS = (1000, 2000)\n"
        "sys.exit(main())\n"
    )
    return str(script)


def test_messages_that_kill_three_processes_are_dead_and_the_others_run(
    broker, send, run, tmp_path, impatient
):
    """All at once, and what runs beside one of them time and again is not taken for another."""
    for name in ("leave", "crash", "killed"):
        send(name)
    for number in range(50):
        send("write", number)

    program = run("app", "-p", "2", "-t", "2", script=impatient)

    letters = eventually(
        lambda: len(broker.dead_letters("default")) == 3 and broker.dead_letters("default"),
        "the messages are dead",
    )
    eventually(lambda: is_drained(broker), "the others have run")
    assert {each.reason for each in letters} == {"poison: 3 processes died while they ran it"}
    dead = b"".join(each.payload for each in letters)
    assert all(name in dead for name in (b'"leave"', b'"crash"', b'"killed"'))
    assert set(range(50)) == set(map(int, lines(tmp_path / "written")))
    assert "was running: " in program.output
    assert program.stop() == 0


def test_a_message_that_brought_down_a_process_waits_a_second_then_ten(broker, send, run):
    send("leave")

    program = run("app", "-p", "1", "-t", "1").wait_for("exited with code 0")
    eventually(lambda: broker.queue_counts("default").delayed, "it waits")
    program.wait_for("exited with code 0", 2)
    eventually(lambda: broker.queue_counts("default").delayed, "it waits for longer")
    assert program.stop() == 0

    assert broker.dead_letters("default") == []
    first, second = (
        time.mktime(time.strptime(line[1:20], "%Y-%m-%d %H:%M:%S")) + int(line[21:24]) / 1000
        for line in program.output.splitlines()
        if "exited with code 0" in line
    )
    assert 1.0 <= second - first


def test_memory_that_runs_out_and_many_forks_harm_nobody_else(broker, send, run, tmp_path):
    # Once all of its threads are there: the limit forbids to start more.
    program = run("app", "-p", "1", "-t", "4").wait_until_ready()
    send("hog")
    send("fork_many")
    for number in range(20):
        send("write", number)

    [letter] = eventually(lambda: broker.dead_letters("default"), "the message is dead")
    eventually(lambda: is_drained(broker), "the others have run")
    assert letter.reason.startswith("MemoryError")
    assert lines(tmp_path / "forked") == ["50"]
    assert set(range(20)) == set(map(int, lines(tmp_path / "written")))
    assert program.stop() == 0


def test_a_daemon_that_a_dead_worker_left_behind_keeps_nothing_from_others(
    broker, send, run, tmp_path
):
    send("leave_daemon")
    program = run("app", "-p", "1", "-t", "2").wait_for("was killed by SIGKILL")
    try:
        # Held by the dead one or sent since: the daemon must not stand in the way of either.
        for number in range(10):
            send("write", number)
        eventually(lambda: len(lines(tmp_path / "written")) == 10, "the others have run", 5)
        eventually(lambda: broker.queue_counts("default").delayed, "it was taken back", 2)
        [daemon] = map(int, lines(tmp_path / "daemons"))

        assert is_alive(daemon)
        assert program.stop() == 0
    finally:
        for pid in map(int, lines(tmp_path / "daemons")):
            os.kill(pid, signal.SIGKILL)


def test_what_runs_while_the_program_is_stopped_the_hard_way_is_not_blamed(
    broker, send, run, tmp_path
):
    path = tmp_path / "app.py"
    path.write_text(
        path.read_text()
        + "\n\n@dramatiq.actor\ndef last(): note('begun', os.getpid()); time.sleep(60)\n"
    )
    send("last")
    begun = tmp_path / "begun"

    for attempt in itertools.count(1):
        program = run("app", "-p", "1", "-t", "1")
        eventually(lambda: len(lines(begun)) == attempt, "it runs", 20)  # noqa: B023
        program.send().wait_for("Stopping: running messages finish").send_to_group(signal.SIGKILL)
        program.wait()
        if attempt == 4:
            break

    assert broker.dead_letters("default") == []
    assert not broker.queue_counts("default").delayed


def test_no_flight_recorder_outlives_its_worker_and_successor(broker, send, run, tmp_path):
    environment = {"TMPDIR": str(tmp_path)}
    send("write", 1)
    program = run("app", "-p", "2", "-t", "1", environment=environment).wait_until_ready(2)
    assert len(list(tmp_path.glob("dramatiq-flight-*"))) == 2

    os.kill(program.worker_pids()[0], signal.SIGKILL)
    program.wait_until_ready(3)

    eventually(lambda: len(list(tmp_path.glob("dramatiq-flight-*"))) == 2, "the old one goes")
    assert program.stop() == 0
    assert list(tmp_path.glob("dramatiq-flight-*")) == []


RABBITMQ_MODULE = """
import os
import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

dramatiq.set_broker(RabbitmqBroker(url={url!r}))


@dramatiq.actor(queue_name="poison")
def leave():
    os._exit(0)


@dramatiq.actor(queue_name="poison")
def write(number):
    with open("written", "a") as file:
        file.write(f"{{number}}\\n")
"""


def test_rabbitmq_too_stops_delivering_a_message_that_kills_whoever_runs_it(
    rabbitmq_server, write_module, run, tmp_path
):
    # Ten seconds after the second crash, in real life.
    text = RABBITMQ_MODULE.format(url=rabbitmq_server.url)
    text += "from dramatiq.brokers.rabbitmq import consumer, topology\n"
    text += "consumer.CRASH_DELAYS_MS = topology.CRASH_DELAYS_MS = (100, 200)\n"
    path = write_module("app", text, preamble="")
    namespace = {}
    exec(compile(path.read_text(), "app", "exec"), namespace)  # noqa: S102 (written above)
    broker = namespace["write"].broker
    broker.flush("poison")
    namespace["leave"].send()
    namespace["write"].send_many([(number,) for number in range(50)])

    program = run("app", "-p", "2", "-t", "2")

    [(body, properties)] = eventually(lambda: read_all(broker, "poison.XQ"), "the message is dead")
    assert b'"leave"' in body
    headers = properties.headers
    assert headers["x-dramatiq-reason"] == "poison: 3 processes died while they ran it"
    eventually(
        lambda: broker.get_queue_message_counts("poison") == (0, 0, 1), "the others have run"
    )
    assert set(map(int, (tmp_path / "written").read_text().split())) == set(range(50))
    assert program.output.count("exited with code 0") == 3
    assert program.stop() == 0
    delete_queues(broker)
    broker.close()

"""Children that live and are of no use: stuck, stopped, orphaned, under the real program."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from dramatiq.brokers.sqlite import SQLiteBroker
from tests.acceptance.conftest import eventually, is_alive

#: What every application here starts with: SQLite, and limits that a test can wait for.
PREAMBLE = """\
import ctypes, os, sys, time
import dramatiq
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.middleware import TimeLimit

broker = SQLiteBroker("queue.db")
[limit] = [each for each in broker.middleware if isinstance(each, TimeLimit)]
limit.grace = 300
limit.manager.interval_s = 0.05
dramatiq.set_broker(broker)


def note(name, text="x"):
    with open(name, "a") as file:
        file.write(f"{text}\\n")


@dramatiq.actor
def write(number):
    note("written", number)


"""

#: The program with seconds for tenths of seconds.
QUICK = """\
import os, sys, tempfile
os.environ["dramatiq_worker_timeout"] = "100"
tempfile.tempdir = os.getcwd()  # it cleans up there
from dramatiq.brokers import _store
from dramatiq.brokers.sqlite import consumer
from dramatiq.cli import checkup, guard, main, vitality
from dramatiq.worker import loop

guard.Limits = lambda: checkup.Limits(
    look_s=0.1, stopped_looks=5, overdue_looks=2, stuck_pulses=8, clean_after_s=0.5
)
vitality.BEAT_S = 0.1
loop.PROGRESS_S = 0.2
consumer.LONGEST_CALL_S = -10.0  # less the time it waits for locks
_store.CRASH_DELAYS_MS = (100, 200)
sys.exit(main())
"""


@pytest.fixture
def quick(tmp_path):
    script = tmp_path / "quick.py"
    script.write_text(QUICK)
    return str(script)


@pytest.fixture
def broker(tmp_path):
    broker = SQLiteBroker(tmp_path / "queue.db")
    broker.declare_queue("default")
    yield broker
    broker.close()


@pytest.fixture
def send(broker):
    from dramatiq import Message

    def send(actor_name, *args, **options):
        return broker.enqueue(Message("default", actor_name, args, {}, options))

    return send


def lines(path):
    return path.read_text().split() if path.exists() else []


STUCK = {
    "a thread": """
        @dramatiq.actor(time_limit=200)
        def hang():
            note("hung")
            ctypes.CDLL(None).sleep(60)
    """,
    "the interpreter": """
        @dramatiq.actor(time_limit=200)
        def hang():
            note("hung")
            ctypes.PyDLL(None).sleep(60)
    """,
    "the event loop": """
        @dramatiq.actor(time_limit=200)
        async def hang():
            note("hung")
            ctypes.CDLL(None).sleep(60)
    """,
}


@pytest.mark.parametrize("what", STUCK)
def test_a_message_that_cannot_be_interrupted_costs_its_process_and_in_the_end_itself(
    write_module, run, quick, broker, send, tmp_path, what
):
    write_module(
        "app",
        STUCK[what]
        + """
        @dramatiq.actor
        def last():
            note("begun")
            while not os.path.exists("hung") or len(open("hung").readlines()) < 3:
                time.sleep(0.01)
            note("lasted")
    """,
        preamble=PREAMBLE,
    )
    send("hang")
    send("last")
    for number in range(20):
        send("write", number)

    program = run("app", "-p", "1", "-t", "3", script=quick)

    [letter] = eventually(lambda: broker.dead_letters("default"), "the message is dead")
    eventually(lambda: not broker.queue_counts("default").unfinished, "the others have run")
    assert letter.reason == "poison: 3 processes died while they ran it"
    assert b'"hang"' in letter.payload
    assert program.output.count("a message of actor 'hang', queue 'default', has run for") == 3
    assert set(range(20)) == set(map(int, lines(tmp_path / "written")))
    # It ran beside it each time, which is not its fault.
    assert len(lines(tmp_path / "begun")) > 1 or "interpreter" in what
    assert program.stop() == 0


def test_a_message_that_ends_in_its_grace_costs_nothing(
    write_module, run, quick, broker, send, tmp_path
):
    write_module(
        "app",
        """
        limit.grace = 60_000

        @dramatiq.actor(time_limit=50, max_retries=0)
        def slow():
            ctypes.CDLL(None).usleep(700_000)
        """,
        preamble=PREAMBLE,
    )
    send("slow")

    program = run("app", "-p", "1", "-t", "1", script=quick)

    [letter] = eventually(lambda: broker.dead_letters("default"), "the message is dead")
    assert letter.reason.startswith("TimeLimitExceeded")
    assert len(program.worker_pids()) == 1
    assert program.stop() == 0


def test_a_child_that_stays_stopped_is_replaced_and_nobody_is_blamed(
    write_module, run, quick, broker, send, tmp_path
):
    write_module(
        "app",
        """
        @dramatiq.actor
        def work():
            note("begun")
            if len(open("begun").readlines()) > 1:
                return
            time.sleep(60)
        """,
        preamble=PREAMBLE,
    )
    send("work")
    program = run("app", "-p", "1", "-t", "1", script=quick).wait_until_ready()
    # Not before it has said so: stopped while it does, it would never.
    begun = tmp_path / "begun"
    eventually(lambda: begun.exists() and begun.read_text(), "it runs")
    [worker] = program.worker_pids()

    os.kill(worker, signal.SIGSTOP)
    program.wait_for("has been stopped for").wait_for("was killed by SIGKILL")
    program.wait_until_ready(2)

    # At once, not after the wait of one that brought down its process.
    eventually(lambda: not broker.queue_counts("default").unfinished, "it has run")
    assert program.stop() == 0


def test_children_that_are_stopped_with_the_supervisor_go_on_with_it(
    write_module, run, quick, broker
):
    write_module("app", "", preamble=PREAMBLE)
    program = run("app", "-p", "1", "-t", "1", script=quick).wait_until_ready()

    program.send_to_group(signal.SIGSTOP)
    eventually(lambda: Path(f"/proc/{program.pid}/stat").read_text().split()[2] == "T", "it stops")
    threading.Event().wait(1.0)
    program.send_to_group(signal.SIGCONT)
    threading.Event().wait(0.5)

    assert len(program.worker_pids()) == 1
    assert program.stop() == 0


HANGING = {
    "a consumer": """
        from dramatiq.brokers.sqlite.consumer import SQLiteConsumer

        exchange = SQLiteConsumer.exchange

        def hang_once(self, *arguments):
            if os.path.exists("hang") and not os.path.exists("hung"):
                note("hung")
                while os.path.exists("hang"):
                    time.sleep(0.05)
            return exchange(self, *arguments)

        SQLiteConsumer.exchange = hang_once
    """,
    "the event loop": """
        @dramatiq.actor
        async def hang_once():
            if not os.path.exists("hung"):
                note("hung")
                while os.path.exists("hang"):
                    time.sleep(0.05)
    """,
}


@pytest.mark.parametrize("what", HANGING)
def test_a_child_whose_consumer_or_event_loop_hangs_shows_its_stacks_and_is_replaced(
    write_module, run, quick, broker, send, tmp_path, what
):
    write_module("app", HANGING[what], preamble=PREAMBLE)
    program = run("app", "-p", "1", "-t", "1", script=quick).wait_until_ready()
    (tmp_path / "hang").touch()
    if "loop" in what:
        send("hang_once")

    program.wait_for("hangs for").wait_for("in hang_once")
    program.wait_for("Stopping: running messages finish")
    (tmp_path / "hang").unlink()
    program.wait_for("exited with code 0").wait_until_ready(2)
    send("write", 1)

    eventually(lambda: lines(tmp_path / "written") == ["1"], "work goes on")
    assert program.stop() == 0


def test_a_child_that_waits_does_not_hang(write_module, run, quick, broker, tmp_path, monkeypatch):
    """Whether there is no work, a long backoff after an error, or a native call that blocks all."""
    monkeypatch.setenv("dramatiq_restart_delay", "60000")
    write_module(
        "app",
        """
        from dramatiq.brokers.sqlite.consumer import SQLiteConsumer
        from dramatiq.errors import ConnectionClosed

        @dramatiq.actor(queue_name="broken")
        def unreachable():
            pass

        @dramatiq.actor
        def block():
            ctypes.PyDLL(None).sleep(2)
            note("blocked")

        exchange = SQLiteConsumer.exchange

        def fail(self, *arguments):
            if self.queue_name == "broken":
                raise ConnectionClosed("no server")
            return exchange(self, *arguments)

        SQLiteConsumer.exchange = fail
        """,
        preamble=PREAMBLE,
    )
    from dramatiq import Message

    broker.enqueue(Message("default", "block", (), {}, {}))

    # It is never ready, for one queue cannot be consumed.
    program = run("app", "-p", "1", "-t", "1", script=quick)
    eventually((tmp_path / "blocked").exists, "it ends")
    threading.Event().wait(1.0)

    assert "hangs" not in program.output
    assert program.stop() == 0


@pytest.mark.parametrize("options", [(), ("--use-spawn",)])
def test_no_child_survives_a_killed_supervisor_whatever_it_does(
    write_module, run, broker, send, tmp_path, options
):
    write_module(
        "app",
        """
        @dramatiq.actor
        def sleep():
            note("children", os.getpid())
            time.sleep(60)

        @dramatiq.actor
        def ignore():
            note("children", os.getpid())
            while True:
                try:
                    time.sleep(60)
                except BaseException:
                    pass

        def fork():
            note("children", os.getpid())
            while True:
                try:
                    time.sleep(60)
                except BaseException:
                    pass
        """,
        preamble=PREAMBLE,
    )
    send("sleep")
    send("ignore")
    program = run("app", "-p", "2", "-t", "2", "-f", "app:fork", *options)
    children = tmp_path / "children"
    eventually(lambda: len(lines(children)) == 3, "all run")
    program.wait_until_ready(2)  # One worker may run both messages, and the other come later.
    pids = {*map(int, lines(children)), *program.worker_pids()}
    assert len(pids) == 3

    os.kill(program.pid, signal.SIGKILL)

    eventually(lambda: not any(map(is_alive, pids)), "the end of the children", 5)
    # They gave back what they could not finish, and nobody is to blame.
    counts = broker.queue_counts("default")
    assert (2, 0, 0) == (counts.ready, counts.delayed, counts.leased)


def test_files_of_a_tree_that_was_killed_are_removed_by_the_next(
    write_module, run, quick, broker, tmp_path
):
    environment = {"TMPDIR": str(tmp_path)}
    write_module("app", "", preamble=PREAMBLE)
    program = run("app", "-p", "2", "-t", "1", environment=environment).wait_until_ready(2)
    program.send_to_group(signal.SIGKILL).wait()
    (tmp_path / "queue.db").unlink()  # so that nothing tells of them
    old = set(tmp_path.glob("dramatiq-flight-*"))
    assert len(old) == 2

    program = run("app", "-p", "1", "-t", "1", script=quick, environment=environment)

    eventually(lambda: not old & set(tmp_path.glob("dramatiq-flight-*")), "they go")
    assert len(set(tmp_path.glob("dramatiq-flight-*"))) == 1
    assert program.stop() == 0


def test_a_fork_process_that_dies_again_and_again_is_given_up_and_the_others_go_on(
    tmp_path, write_module, run
):
    write_module("app", "def fork():\n    os._exit(5)\n", preamble=PREAMBLE)
    script = tmp_path / "impatient.py"
    script.write_text(
        "import sys\n"
        "from dramatiq.cli import main, supervisor\n"
        "from dramatiq.cli.restart import RestartPolicy\n"
        "supervisor.RestartPolicy = lambda: RestartPolicy(0.01, 0.02, fast_deaths_allowed=4)\n"
        "sys.exit(main())\n"
    )

    program = run("app", "-p", "1", "-t", "1", "-f", "app:fork", script=str(script))
    program.wait_until_ready().wait_for("dies again and again, and is given up")

    assert program.output.count("exited with code 5") == 4
    assert program.stop() == 0

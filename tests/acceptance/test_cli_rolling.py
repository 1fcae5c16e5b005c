"""Replacing processes without a gap: on SIGHUP with --rolling, and when they had their share."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import eventually, is_alive

TWO = ("-p", "2", "-t", "1", "--rolling")


def children_of(program):
    path = Path(f"/proc/{program.pid}/task/{program.pid}/children")
    return {int(pid) for pid in path.read_text().split()}


@pytest.mark.parametrize("how", [(), ("--use-spawn",)], ids=["forked", "spawned"])
def test_a_roll_replaces_one_process_after_the_other_with_the_new_code(write_module, run, how):
    write_module("app", "print('version one')")
    program = run("app", *TWO, *how).wait_until_ready(2)
    old = program.worker_pids()
    write_module("app", "print('version two, longer')")

    program.send(signal.SIGHUP).wait_for("All worker processes have been replaced.")

    assert program.output.count("version two, longer") == 2
    assert not any(is_alive(pid) for pid in old)
    # The second replacement was started when the first old process had ended.
    steps = re.findall(r"(is replaced by|has been shut down)", program.output)
    assert steps == ["is replaced by", "has been shut down"] * 2
    assert program.output.count("Ctrl-C to stop") == 1
    assert program.stop() == 0


def test_running_messages_finish_while_their_process_is_replaced(write_module, run):
    write_module(
        "app",
        """
        @dramatiq.actor
        def work():
            print("work begins in", os.getpid())
            while not os.path.exists("go"):
                time.sleep(0.01)
            print("work is done in", os.getpid())
        """,
    )
    program = run("app", "-p", "1", "-t", "1", "--rolling").wait_for("work begins")
    program.wait_until_ready()
    (old,) = program.worker_pids()

    program.send(signal.SIGHUP).wait_for("is replaced by")
    assert is_alive(old)
    (program.directory / "go").touch()

    program.wait_for(f"work is done in {old}").wait_for("have been replaced")
    assert "again" not in program.output
    assert program.stop() == 0


def test_new_code_that_does_not_boot_ends_the_roll_and_leaves_all_running(write_module, run):
    write_module("app", "")
    program = run("app", *TWO).wait_until_ready(2)
    old = program.worker_pids()
    write_module("app", "import surely_not_installed")

    program.send(signal.SIGHUP).wait_for("The roll ends here")
    program.wait_for("No module named 'surely_not_installed'")

    eventually(lambda: children_of(program) == set(old), "the end of the replacement")
    write_module("app", "print('repaired')")
    program.send(signal.SIGHUP).wait_for("have been replaced").wait_for("repaired", 2)
    assert program.stop() == 0


def test_a_replacement_that_hangs_is_given_up(write_module, run):
    write_module("app", "")
    program = run("app", *TWO, "--worker-fork-timeout", "2000").wait_until_ready(2)
    old = program.worker_pids()
    write_module("app", "time.sleep(60)")

    program.send(signal.SIGHUP).wait_for("it was not ready in time. The roll ends here")

    eventually(lambda: children_of(program) == set(old), "the end of the replacement")
    assert program.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_a_roll_stops_all_gracefully(write_module, run, number):
    write_module("app", "")
    program = run("app", *TWO).wait_until_ready(2)
    write_module("app", "print('importing')\ntime.sleep(60)")
    program.send(signal.SIGHUP).wait_for("importing")

    code = program.send_to_group(number).wait()

    assert code == 0
    assert "Traceback" not in program.output


def test_a_process_that_was_replaced_and_still_works_is_not_killed_by_the_stop(write_module, run):
    write_module(
        "app",
        """
        @dramatiq.actor
        def work():
            print("work begins")
            while not os.path.exists("go"):
                time.sleep(0.01)
            print("work is done")
        """,
    )
    program = run("app", "-p", "1", "-t", "1", "--rolling").wait_for("work begins")
    program.send(signal.SIGHUP).wait_for("is replaced by").wait_for("work begins", 2)

    program.send_to_group(signal.SIGTERM).wait_for("SIGTERM: stopping")
    (program.directory / "go").touch()

    assert program.wait() == 0
    assert program.output.count("work is done") == 2


def test_a_worker_that_dies_during_its_replacement_is_not_missed(write_module, run):
    write_module("app", "")
    program = run("app", "-p", "1", "-t", "1", "--rolling").wait_until_ready()
    (old,) = program.worker_pids()
    write_module("app", "print('importing')\nwhile not os.path.exists('go'): time.sleep(0.01)")
    program.send(signal.SIGHUP).wait_for("importing")

    os.kill(old, signal.SIGKILL)
    program.wait_for(f"(PID {old}) was killed by SIGKILL")
    (program.directory / "go").touch()

    program.wait_until_ready(2)
    assert len(children_of(program)) == 1
    assert program.stop() == 0


def test_fork_functions_are_replaced_and_follow_the_new_code(write_module, run):
    forks = """
        def first():
            print("first fork {version}")
            signal.pause()

        def second():
            print("second fork {version}")
            signal.pause()

        class Forks(dramatiq.Middleware):
            @property
            def forks(self):
                return [{forks}]

        broker.add_middleware(Forks())
    """
    write_module("app", forks.format(version="one", forks="first"))
    program = run("app", *TWO, "-f", "app:first").wait_for("first fork one", 2)
    write_module("app", forks.format(version="two, longer", forks="second"))

    program.send(signal.SIGHUP).wait_for("first fork two").wait_for("second fork two")

    eventually(lambda: len(children_of(program)) == 4, "two workers and two forks")
    assert program.output.count("first fork two") == 1
    assert program.stop() == 0


def test_hangups_in_quick_succession_are_rolls_and_no_force(write_module, run):
    write_module("app", "")
    program = run("app", *TWO).wait_until_ready(2)

    for _ in range(3):
        program.send(signal.SIGHUP)
    program.wait_for("have been replaced")
    program.send(signal.SIGHUP).wait_for("have been replaced", 2)

    assert len(children_of(program)) == 2
    assert program.stop() == 0


COUNTING = """
    @dramatiq.actor
    def work(number=0):
        if number == 0 and not os.path.exists("sent"):
            open("sent", "w").close()
            work.send_many((each,) for each in range(1, 301))
        with open("marks", "a") as file:
            file.write(f"{number} {os.getpid()}\\n")
"""


def marks(program):
    path = program.directory / "marks"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


@pytest.fixture
def on_sqlite(monkeypatch, tmp_path):
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", "sqlite:///dramatiq.db")
    return "import os, time\nimport dramatiq\n"


def test_a_process_is_replaced_after_so_many_messages(write_module, run, on_sqlite):
    write_module("app", COUNTING, preamble=on_sqlite)
    write_module("send", "from app import work\nwork.send()\n", preamble="")
    program = run("app", "send", "-p", "1", "-t", "2", "--max-messages", "100")

    eventually(lambda: len({number for number, _ in marks(program)}) == 301, "all messages")
    program.wait_for("asks to be replaced").wait_for("is replaced by").wait_until_ready(2)
    old, new = program.worker_pids()
    eventually(lambda: not is_alive(old), "the end of the old process")
    subprocess.run(
        [sys.executable, "-c", "from app import work; work.send(301)"],
        cwd=program.directory,
        check=True,
        timeout=30,
    )
    eventually(lambda: (301, new) in marks(program), "a message in the new process")

    assert re.search(r"has processed (9\d|100) messages", program.output)
    assert [] == [line for line in program.output.splitlines() if "[ERROR]" in line]
    assert program.stop() == 0
    numbers = [number for number, _ in marks(program) if number]
    assert sorted(numbers) == list(range(1, 302))


def test_a_process_that_takes_too_much_memory_is_replaced_and_its_sibling_is_not(write_module, run):
    write_module(
        "app",
        """
        kept = []

        @dramatiq.actor
        def work():
            if not os.path.exists("hungry"):
                open("hungry", "w").close()
                kept.append(b"x" * 200_000_000)
                print("hungry is", os.getpid())
        """,
    )

    program = run("app", "-p", "2", "-t", "1", "--max-memory", "150").wait_for("hungry is")
    program.wait_for("is replaced by")

    assert "MiB, more than the 150 of --max-memory" in program.output
    eventually(lambda: len(children_of(program)) == 2, "the end of the old process")
    assert program.output.count("is replaced by") == 1
    assert program.stop() == 0


def test_a_process_goes_on_when_its_replacement_does_not_boot(write_module, run):
    write_module(
        "app",
        """
        if os.path.exists("broken"):
            import surely_not_installed

        @dramatiq.actor
        def work():
            open("broken", "w").close()
        """,
    )

    program = run("app", "-p", "1", "-t", "1", "--max-messages", "1").wait_until_ready()
    program.wait_for("The old process goes on")
    (old,) = program.worker_pids()

    assert is_alive(old)
    (program.directory / "broken").unlink()
    program.wait_for("is replaced by")
    assert program.stop() == 0


def test_a_hangup_while_the_first_processes_boot_is_a_roll_too(write_module, run):
    write_module("app", "print('importing')\nwhile not os.path.exists('go'): time.sleep(0.01)")
    program = run("app", *TWO).wait_for("importing", 2)

    program.send(signal.SIGHUP).wait_for("importing", 3)
    (program.directory / "go").touch()

    program.wait_for("have been replaced")
    eventually(lambda: len(children_of(program)) == 2, "two workers")
    assert program.stop() == 0

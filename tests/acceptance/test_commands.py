"""Commands as processes: which command line is whose, and what `dev` and `enqueue` do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

#: An application that leaves the choice of its broker to whoever runs it.
EMBEDDED = """\
import dramatiq
from dramatiq.results import Results
from dramatiq.results.backends import SQLiteBackend

dramatiq.get_broker().add_middleware(Results(backend=SQLiteBackend()))


@dramatiq.actor
def add(left, right):
    print(f"adding {left} and {right}")
    return left + right


@dramatiq.actor(max_retries=0)
def fail():
    raise ValueError("on purpose")
"""


@pytest.mark.parametrize("name", ["run", "worker"])
def test_the_workers_command_line_may_be_said_explicitly(write_module, run, name):
    write_module("app", "")

    program = run(name, "app", "-p", "1", "-t", "1").wait_until_ready()

    program.wait_for("1 process x 1 thread")  # Of another process than the line before.
    assert program.stop() == 0


def test_a_module_that_is_called_like_a_command_is_run_explicitly(write_module, run):
    write_module("top", "print('here is top')")

    program = run("run", "top", "-p", "1").wait_until_ready()

    assert "here is top" in program.output
    assert "taken for the command" not in program.output
    assert program.stop() == 0


def test_exit_codes_of_run_are_those_of_workers(write_module, run):
    write_module("app", "raise dramatiq.ConnectionFailed('refused')")

    assert run("run", "app", "-p", "1").wait() == 3
    assert run("run", "nope", "-p", "1").wait() == 2
    assert run("run").wait() == 2


def test_run_starts_anew_on_hangup_as_it_was_started(write_module, run):
    write_module("app", "print('boot of', os.getppid())")

    program = run("run", "app", "-p", "1", "-t", "1").wait_until_ready()
    program.send(signal.SIGHUP).wait_for(f"boot of {program.pid}", 2).wait_until_ready(2)

    program.wait_for("1 process x 1 thread", 2)
    assert program.stop() == 0


def test_a_typo_in_a_command_is_taken_for_a_module_and_suggested(write_module, run):
    write_module("app", "")

    program = run("requeu", "-p", "1")

    assert program.wait() == 2
    assert "Cannot import 'requeu' from" in program.output
    assert "Did you mean the command 'requeue'?" in program.output


def test_dev_runs_one_process_on_the_embedded_broker_and_tells_what_to_do(write_module, run):
    write_module("app", EMBEDDED, preamble="")

    program = run("dev", "app", "--no-dashboard").wait_until_ready()

    program.wait_for("dramatiq enqueue app add LEFT RIGHT")
    assert "1 process x 8 threads" in program.output
    assert f"SQLiteBroker at sqlite:///{program.directory.resolve() / 'dramatiq.db'}" in (
        program.output
    )
    assert "queue default: add, fail" in program.output
    assert program.stop() == 0


def test_dev_tells_the_same_after_a_reload(write_module, run):
    write_module("app", EMBEDDED, preamble="")

    program = run("dev", "app", "--no-dashboard").wait_until_ready()
    program.send(signal.SIGHUP).wait_until_ready(2).wait_for("send a message: ", 2)

    lines = [line for line in program.output.splitlines() if "send a message: " in line]
    first, second = (line.partition("send a message: ")[2] for line in lines)
    assert first == second
    assert program.stop() == 0


def test_dev_keeps_to_the_broker_that_was_chosen_and_to_options(write_module, run):
    write_module("app", "@dramatiq.actor\ndef work(): pass")

    program = run("dev", "app", "--no-dashboard", "-t", "3").wait_until_ready()

    program.wait_for("send a message: dramatiq enqueue app work\n")
    assert "1 process x 3 threads" in program.output
    assert "broker: StubBroker" in program.output
    assert program.stop() == 0


def test_a_message_is_sent_and_its_result_waited_for(write_module, run, command):
    write_module("app", EMBEDDED, preamble="")
    program = run("dev", "app", "--no-dashboard").wait_until_ready()

    done = command("enqueue", "app", "add", "19", "-k", "right=23", "--wait")
    failed = command("enqueue", "app", "fail", "--wait")

    assert (done.returncode, done.stdout) == (0, "42\n")
    assert "Sent add(19, right=23) to SQLiteBroker" in done.stderr
    assert "adding 19 and 23" in program.output
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "the actor failed: actor raised ValueError: on purpose" in failed.stderr
    assert program.stop() == 0


def test_a_broker_that_is_not_there_is_one_line_and_exit_code_4(write_module, command):
    write_module("app", "@dramatiq.actor\ndef work(): pass", preamble="import dramatiq\n")

    done = command("enqueue", "app", "work", url="redis://me:secret@127.0.0.1:1/0")

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("dramatiq enqueue: Cannot connect to Redis at 127.0.0.1:1/0.")
    assert "secret" not in done.stderr


def test_doctor_reports_a_broker_that_is_not_there(command):
    done = command("doctor", "--json", url="redis://me:secret@127.0.0.1:1/0")

    report = json.loads(done.stdout)
    assert report["broker"]["chosen_because"] == "DRAMATIQ_BROKER_URL is set"
    assert "secret" not in done.stdout


def test_a_reader_who_has_seen_enough_is_no_error(write_module, tmp_path):
    actors = "".join(f"@dramatiq.actor\ndef work_{n}(): pass\n" for n in range(3000))
    write_module("app", actors)
    process = subprocess.Popen(
        [sys.executable, "-m", "dramatiq", "actors", "app"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdout.readline()
        process.stdout.close()

        assert process.stderr.read() == b""
    assert process.returncode == 0

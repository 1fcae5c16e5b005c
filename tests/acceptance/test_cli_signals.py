"""Stopping, killing and reloading, as seen from outside."""

from __future__ import annotations

import os
import signal
import time

import pytest

from .conftest import eventually, is_alive, state_of

ONE = ("-p", "1", "-t", "2")

#: Runs for a while, and says when it is through.
SLOW = """
    @dramatiq.actor
    def work():
        print("work begins")
        time.sleep(0.5)
        print("work is done")
"""

#: Runs until it is killed, whatever it is asked.
STUBBORN = """
    @dramatiq.actor(max_retries=0, time_limit=float("inf"))
    def work():
        print("work begins")
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_messages_finish_before_a_graceful_exit(write_module, run, number):
    write_module("app", SLOW)
    program = run("app", *ONE).wait_for("work begins")

    code = program.send(number).wait()

    assert code == 0
    assert "work is done" in program.output
    assert f"{number.name}: stopping." in program.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_counts_once(write_module, run, number):
    write_module("app", SLOW)
    program = run("app", "-p", "2", "-t", "2").wait_for("work begins", 2)

    code = program.send_to_group(number).wait()

    assert code == 0
    assert program.output.count("work is done") == 2


def test_a_second_request_ends_everything_at_once(write_module, run):
    write_module("app", STUBBORN)
    program = run("app", *ONE).wait_for("work begins")
    program.send(signal.SIGTERM).wait_for("SIGTERM: stopping")
    started = time.monotonic()

    def ended():
        program.send(signal.SIGTERM)
        return program.process.poll() is not None

    eventually(ended, "the end")

    assert program.wait() == 1
    assert time.monotonic() - started < 5


def test_running_messages_are_waited_for_no_longer_than_allowed(write_module, run):
    write_module("app", STUBBORN)
    program = run("app", *ONE, "--worker-shutdown-timeout", "100").wait_for("work begins")

    code = program.stop()

    assert code == 0
    assert "work is done" not in program.output


def test_a_process_that_cannot_obey_is_killed_by_the_second_request(write_module, run):
    write_module("app", STUBBORN)
    program = run("app", *ONE).wait_for("work begins").wait_until_ready()
    (worker,) = program.worker_pids()
    program.send(signal.SIGTERM).wait_for("Stopping: running messages finish")
    os.kill(worker, signal.SIGSTOP)

    eventually(lambda: program.send(signal.SIGTERM).process.poll() is not None, "the end")

    assert program.wait() == 1
    assert not is_alive(worker)


def test_stopping_while_the_application_is_imported_is_prompt(write_module, run):
    write_module("app", "print('import begins')\ntime.sleep(60)")
    program = run("app", "-p", "2").wait_for("import begins", 2)
    started = time.monotonic()

    code = program.stop()

    assert code == 0
    assert time.monotonic() - started < 5
    assert "Traceback" not in program.output


def test_an_application_that_catches_everything_on_import_still_stops(write_module, run):
    write_module(
        "app",
        """
        print("import begins")
        try:
            time.sleep(60)
        except BaseException:
            print("swallowed")
        """,
    )
    program = run("app", *ONE).wait_for("import begins")

    code = program.stop()

    assert code == 0
    assert "is ready" not in program.output


def test_no_signal_is_blocked_for_user_code(write_module, run):
    write_module(
        "app",
        """
        def mask():
            return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))

        print("on import", mask())

        class Boot(dramatiq.Middleware):
            def after_process_boot(self, broker):
                print("on boot", mask())

        broker.add_middleware(Boot())

        @dramatiq.actor
        def work():
            print("in actor", mask())
        """,
    )

    program = run("app", *ONE).wait_for("in actor")

    assert "on import []" in program.output
    assert "on boot []" in program.output
    assert "in actor []" in program.output


def test_hangup_starts_the_same_process_anew_with_the_new_code(write_module, run):
    write_module("app", "print('version one')")
    program = run("app", "-p", "2", "-t", "1").wait_until_ready(2).wait_for("version one", 2)
    old_workers = program.worker_pids()
    write_module("app", "print('version two', os.getppid())")

    program.send(signal.SIGHUP).wait_for(f"version two {program.pid}", 2).wait_until_ready(4)

    assert not any(is_alive(pid) for pid in old_workers)
    assert program.stop() == 0


def test_running_messages_finish_before_a_reload(write_module, run):
    write_module("app", SLOW)
    program = run("app", *ONE).wait_for("work begins")

    program.send(signal.SIGHUP).wait_until_ready(2)

    assert "work is done" in program.output
    assert program.stop() == 0


def test_a_request_to_stop_takes_a_reload_back(write_module, run):
    write_module("app", SLOW)
    program = run("app", *ONE).wait_for("work begins")

    program.send(signal.SIGHUP).wait_for("SIGHUP: stopping to reload")
    code = program.send(signal.SIGTERM).wait()

    assert code == 0
    assert program.output.count("is ready") == 1


def test_a_stop_right_after_a_reload_is_not_lost(write_module, run):
    write_module("app", "")
    program = run("app", *ONE).wait_until_ready()
    (worker,) = program.worker_pids()

    program.send(signal.SIGHUP)
    eventually(lambda: not is_alive(worker), "the end of the old worker")
    code = program.send(signal.SIGTERM).wait()

    assert code == 0


def test_a_stop_that_arrives_together_with_a_reload_is_not_lost(write_module, run):
    write_module("app", "")
    program = run("app", *ONE).wait_until_ready()
    program.send(signal.SIGSTOP)
    eventually(lambda: state_of(program.pid) == "T", "the program is stopped")

    program.send(signal.SIGHUP)
    program.send(signal.SIGTERM)
    program.send(signal.SIGCONT)

    assert program.wait() == 0


@pytest.mark.parametrize("after_ms", range(0, 20, 2))
def test_a_stop_at_any_moment_of_a_reload_is_not_lost(write_module, run, after_ms):
    write_module("app", "")
    program = run("app", *ONE).wait_until_ready()

    program.send(signal.SIGHUP)
    # An instant each: before the process ends, while the program starts anew, after that.
    time.sleep(after_ms / 1000)

    assert program.send(signal.SIGTERM).wait() == 0


def test_a_stop_at_any_moment_of_the_boot_is_graceful(write_module, run):
    write_module("app", "")
    program = run("app", "-p", "2", "-t", "2", "--pid-file", "pid")
    pid_file = program.directory / "pid"

    for step in range(6):
        eventually(pid_file.exists, "the PID file")
        time.sleep(step * 0.02)  # spread over the boot, not a wait for something
        assert program.stop() == 0, program.output
        assert not pid_file.exists()
        assert "Traceback" not in program.output
        program = run("app", "-p", "2", "-t", "2", "--pid-file", "pid")

"""What happens when a process dies: a worker, a fork process, the supervisor itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import eventually, is_alive


def test_a_killed_worker_is_replaced_and_its_sibling_is_left_alone(write_module, run):
    write_module("app", "")
    program = run("app", "-p", "2", "-t", "1").wait_until_ready(2)
    (first,), (second,) = program.worker_pids(0), program.worker_pids(1)
    started = time.monotonic()

    os.kill(first, signal.SIGKILL)
    program.wait_until_ready(3)

    assert time.monotonic() - started < 2
    assert f"Worker 0 (PID {first}) was killed by SIGKILL." in program.output
    assert len(program.worker_pids(0)) == 2
    assert is_alive(second)
    assert program.stop() == 0


@pytest.mark.parametrize("ending", ["os._exit(0)", "os._exit(3)", "os.abort()"])
def test_a_worker_that_ends_by_itself_is_replaced(write_module, run, ending):
    write_module(
        "app",
        f"""
        @dramatiq.actor
        def work():
            if not os.path.exists("died"):
                open("died", "w").close()
                {ending}
            print("worked the second time")
        """,
    )

    program = run("app", "-p", "1", "-t", "1").wait_for("worked the second time")

    assert program.stop() == 0


def test_a_worker_that_dies_again_and_again_ends_the_program(tmp_path, write_module, run):
    write_module("app", "@dramatiq.actor\ndef work():\n    os._exit(9)\n")
    script = tmp_path / "impatient.py"
    script.write_text(
        "import sys\n"
        "from dramatiq.cli import main, supervisor\n"
        "from dramatiq.cli.restart import RestartPolicy\n"
        "supervisor.RestartPolicy = lambda: RestartPolicy(0.01, 0.02, fast_deaths_allowed=4)\n"
        "sys.exit(main())\n"
    )

    program = run("app", "-p", "1", "-t", "1", script=str(script))

    assert program.wait() == 1
    assert program.output.count("exited with code 9") == 4
    assert "Worker 0 died 4 times in a row right after its start." in program.output


def test_a_replacement_that_cannot_be_imported_does_not_stop_the_others(write_module, run):
    write_module("app", "if os.path.exists('broken'):\n    import surely_not_installed\n")
    program = run("app", "-p", "2", "-t", "1").wait_until_ready(2)
    (first,), (second,) = program.worker_pids(0), program.worker_pids(1)

    (program.directory / "broken").touch()
    os.kill(first, signal.SIGKILL)
    program.wait_for("No module named 'surely_not_installed'")
    (program.directory / "broken").unlink()
    program.wait_until_ready(3)

    assert is_alive(second)
    assert program.stop() == 0


@pytest.mark.parametrize(
    ("ending", "code"), [("os._exit(0)", 0), ("os._exit(3)", 3), ("os.abort()", 1)]
)
def test_workers_die_together_on_demand(write_module, run, ending, code):
    write_module(
        "app",
        f"""
        @dramatiq.actor
        def work():
            if not os.path.exists("died"):
                open("died", "w").close()
                {ending}
        """,
    )

    program = run("app", "-p", "2", "-t", "1", "--die-with-child")

    assert program.wait() == code
    assert "[CRITICAL] Worker" in program.output
    assert "Stopping all." in program.output


def test_no_worker_survives_a_killed_supervisor(write_module, run):
    write_module("app", "")
    program = run("app", "-p", "2", "-t", "1").wait_until_ready(2)
    workers = program.worker_pids()

    os.kill(program.pid, signal.SIGKILL)

    eventually(lambda: not any(map(is_alive, workers)), "the end of the workers", 5)


def test_running_messages_finish_when_the_supervisor_is_killed(tmp_path, write_module, run):
    write_module(
        "app",
        """
        @dramatiq.actor
        def work():
            print("work begins")
            time.sleep(0.5)
            for _ in range(10_000):  # Three times what a pipe holds.
                print("nobody reads this")
            open("done", "w").close()
        """,
    )
    program = run("app", "-p", "2", "-t", "1").wait_for("work begins", 2)
    workers = program.worker_pids()

    os.kill(program.pid, signal.SIGKILL)

    eventually(lambda: not any(map(is_alive, workers)), "the end of the workers")
    assert (tmp_path / "done").exists()


def test_an_import_does_not_outlive_a_killed_supervisor(write_module, run):
    write_module("app", "print('importing as', os.getpid(), flush=True)\ntime.sleep(60)")
    program = run("app", "-p", "1").wait_for("importing as")
    worker = int(program.output.split()[-1])

    os.kill(program.pid, signal.SIGKILL)

    eventually(lambda: not is_alive(worker), "the end of the worker", 5)


def test_fork_functions_of_command_line_and_middleware_run_once(write_module, run):
    write_module(
        "app",
        """
        def from_command_line():
            print("fork of command line", os.getpid())
            signal.pause()

        def from_middleware():
            print("fork of middleware", os.getpid())
            signal.pause()

        class Forks(dramatiq.Middleware):
            @property
            def forks(self):
                return [from_middleware]

        broker.add_middleware(Forks())
        """,
    )

    program = run("app", "-p", "2", "-t", "1", "-f", "app:from_command_line")
    program.wait_until_ready(2).wait_for("fork of command line").wait_for("fork of middleware")
    forks = [int(line.split()[-1]) for line in program.output.splitlines() if "fork of" in line]
    code = program.stop()

    assert code == 0
    assert len(forks) == 2
    assert not any(map(is_alive, forks))


def test_a_crashed_fork_process_is_started_again_and_a_finished_one_is_not(write_module, run):
    write_module(
        "app",
        """
        def crashes():
            print("crashing fork runs")
            if not os.path.exists("crashed"):
                open("crashed", "w").close()
                os._exit(5)
            signal.pause()

        def finishes():
            print("finishing fork runs")
        """,
    )

    program = run("app", "-p", "1", "-t", "1", "-f", "app:crashes", "-f", "app:finishes")
    program.wait_for("crashing fork runs", 2)
    code = program.stop()

    assert code == 0
    assert program.output.count("finishing fork runs") == 1


def test_a_fork_function_that_cannot_be_found_is_not_fatal(write_module, run):
    write_module("app", "")

    program = run("app", "-p", "1", "-t", "1", "-f", "app:nope", "-f", "app")
    program.wait_for("Module 'app' does not define a 'nope' variable.").wait_for("is no function")
    program.wait_until_ready()

    assert program.stop() == 0


def test_a_fork_process_may_clean_up_when_it_is_stopped(write_module, run):
    write_module(
        "app",
        """
        def fork():
            try:
                print("fork runs")
                time.sleep(60)
            finally:
                print("fork cleans up")
        """,
    )
    program = run("app", "-p", "1", "-t", "1", "-f", "app:fork").wait_for("fork runs")

    code = program.stop()

    assert code == 0
    assert "fork cleans up" in program.output


def test_fork_functions_do_not_wait_longer_than_allowed_for_the_workers(write_module, run):
    write_module("app", "time.sleep(0 if os.environ.get('FORK') else 60)")
    write_module("forks", "def fork():\n    print('fork runs')\n", preamble="")

    program = run("app", "-p", "1", "-f", "forks:fork", "--worker-fork-timeout", "50")
    program.wait_for("fork runs")

    assert program.stop() == 0


def test_no_fork_process_survives_a_killed_supervisor(write_module, run):
    write_module(
        "app", "def fork():\n    print('fork', os.getpid(), flush=True)\n    time.sleep(60)\n"
    )
    program = run("app", "-p", "1", "-t", "1", "-f", "app:fork").wait_for("fork ")
    eventually(lambda: "\nfork " in program.output, "the fork")
    (line,) = [line for line in program.output.splitlines() if line.startswith("fork ")]

    os.kill(program.pid, signal.SIGKILL)

    eventually(lambda: not is_alive(int(line.split()[1])), "the end of the fork", 5)


def test_messages_of_a_killed_worker_are_run_by_others(tmp_path, write_module, run, monkeypatch):
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", "sqlite:///dramatiq.db")
    write_module(
        "app",
        """
        import dramatiq

        @dramatiq.actor
        def mark(number):
            with open("marks", "a") as file:
                file.write(f"{number}\\n")
            time.sleep(0.005)

        @dramatiq.actor
        def begin():
            mark.send_many((number,) for number in range(400))
            print("all are sent")
        """,
        preamble="import os, time\n",
    )
    write_module("begin", "from app import begin\nbegin.send()\n", preamble="")
    subprocess.run([sys.executable, "begin.py"], cwd=tmp_path, check=True, timeout=30)
    marks = tmp_path / "marks"

    program = run("app", "-p", "2", "-t", "2").wait_for("all are sent")
    eventually(lambda: marks.exists() and marks.read_text().count("\n") > 20, "some work")
    os.kill(program.worker_pids()[0], signal.SIGKILL)

    everything = {str(number) for number in range(400)}
    eventually(lambda: everything == set(marks.read_text().split()), "all work")
    assert program.stop() == 0


def test_the_supervisor_has_a_single_thread_and_no_user_code(write_module, run):
    write_module("app", "print('imported by', os.getpid())")
    program = run("app", "-p", "2", "-t", "1").wait_until_ready(2)

    os.kill(program.worker_pids()[0], signal.SIGKILL)
    program.wait_until_ready(3)

    assert f"imported by {program.pid}\n" not in program.output
    assert len(list(Path(f"/proc/{program.pid}/task").iterdir())) == 1

"""From the command line to workers that are ready: what is run, and what is said about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dramatiq

ONE = ("-p", "1", "-t", "2")

ACTORS = """
    @dramatiq.actor
    def add(a, b):
        return a + b

    @dramatiq.actor(queue_name="mail")
    def send_mail():
        pass
"""


def test_the_boot_summary_is_logged_once_for_all_processes(write_module, run):
    write_module("app", ACTORS)

    program = run("app", "-p", "2", "-t", "3").wait_until_ready(2).wait_for("Ctrl-C")
    code = program.stop()

    output = program.output
    assert code == 0
    assert output.count(f"dramatiq {dramatiq.__version__}: 2 processes x 3 threads.") == 1
    assert output.count("broker: StubBroker") == 1
    assert output.count("queue default: add") == 1
    assert output.count("queue mail: send_mail") == 1
    assert output.count("Ctrl-C to stop") == 1


def test_the_password_of_the_broker_is_masked(write_module, run):
    write_module(
        "app",
        """
        class RemoteBroker(StubBroker):
            display_url = "redis://user:secret@host:6379/0"

        broker = RemoteBroker()
        """,
    )

    program = run("app:broker", *ONE).wait_for("broker: RemoteBroker")

    assert "redis://user:***@host:6379/0" in program.output
    assert "secret" not in program.output


def test_messages_are_run_and_what_actors_print_reaches_standard_error(write_module, run):
    write_module(
        "app",
        """
        @dramatiq.actor
        def work():
            print("to standard output")
            print("to standard error", file=sys.stderr)
        """,
    )

    program = run("app", *ONE).wait_for("to standard output").wait_for("to standard error")

    assert program.stop() == 0


def test_a_variable_of_the_module_may_be_the_broker_or_set_it_up(write_module, run):
    write_module(
        "app",
        """
        def setup():
            print("set up by call")
            dramatiq.set_broker(broker)

        class Holder:
            broker = broker
        """,
    )

    called = run("app:setup", *ONE).wait_until_ready()
    nested = run("app:Holder.broker", *ONE).wait_until_ready()

    assert "set up by call" in called.output
    assert "set up by call" not in nested.output


def test_broker_then_process_boot_then_modules(write_module, run):
    write_module(
        "app",
        """
        print("1 broker")

        class Boot(dramatiq.Middleware):
            def after_process_boot(self, broker):
                print("2 process boot")

            def before_worker_boot(self, broker, worker):
                print("4 worker boot")

        broker.add_middleware(Boot())
        """,
    )
    write_module("more", 'print("3 module")', preamble="")

    program = run("app", "more", *ONE).wait_until_ready()

    steps = [line for line in program.output.splitlines() if line[:1] in "1234"]
    assert steps == ["1 broker", "2 process boot", "3 module", "4 worker boot"]


def test_only_the_queues_asked_for_are_served(write_module, run):
    write_module(
        "app",
        """
        @dramatiq.actor(queue_name="a")
        def work():
            print("ran a")
            other.send()
            third.send()

        @dramatiq.actor(queue_name="b")
        def other():
            print("ran b")

        @dramatiq.actor(queue_name="c")
        def third():
            print("ran c")
        """,
    )

    program = run("app", *ONE, "-Q", "a,b").wait_for("ran a").wait_for("ran b")
    code = program.stop()

    assert code == 0
    assert "ran c" not in program.output
    assert "queue c" not in program.output


def test_an_unknown_queue_is_warned_about_once(write_module, run):
    write_module("app", ACTORS)

    program = run("app", "-p", "2", "-t", "1", "-Q", "mial").wait_until_ready(2).wait_for("Did you")
    program.stop()

    text = "No actor uses queue 'mial' (known: default, mail). Did you mean 'mail'?"
    assert program.output.count(text) == 1


def test_the_path_given_last_is_searched_first(tmp_path, write_module, run):
    write_module("app", "import settings", preamble="import dramatiq\n")
    for name in ("first", "last"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.py").write_text(
            f"from dramatiq.brokers.stub import StubBroker\nimport dramatiq\n"
            f"dramatiq.set_broker(StubBroker())\nprint('settings of {name}')\n"
        )

    program = run("app", *ONE, "--path", ".", "first", "last").wait_until_ready()

    assert "settings of last" in program.output


def test_all_output_goes_to_the_log_file(tmp_path, write_module, run):
    write_module("app", "print('größe from import')")
    log = tmp_path / "app.log"
    log.write_text("from before\n")

    program = run("app", *ONE, "--log-file", str(log))
    try:
        while "is ready" not in log.read_text(encoding="utf-8"):
            assert program.process.poll() is None
        code = program.stop()
    finally:
        text = log.read_text(encoding="utf-8")

    assert code == 0
    assert text.startswith("from before\n")
    assert "größe from import" in text
    assert "[dramatiq.MainProcess] [INFO]" in text
    assert program.output == ""


def test_a_log_file_that_cannot_be_written_is_named(write_module, run):
    write_module("app", "")

    program = run("app", *ONE, "--log-file", "missing/app.log")

    assert program.wait() == 2
    assert "cannot write to the log file 'missing/app.log'" in program.output


def test_applications_may_configure_logging_themselves(write_module, run):
    write_module(
        "app",
        """
        import logging
        logging.basicConfig(format="MINE %(name)s %(message)s", level=logging.INFO)
        """,
    )

    program = run("app", *ONE, "--skip-logging").wait_for("Worker process is ready.")

    assert "MINE dramatiq.WorkerProcess(0) Worker process is ready." in program.output
    assert "[PID" not in program.output


def test_debug_messages_are_shown_on_demand(write_module, run):
    write_module("app", "import logging\nlogging.getLogger('app').debug('hidden %d', 1)")

    quiet = run("app", *ONE).wait_until_ready()
    verbose = run("app", *ONE, "-v").wait_until_ready()

    assert "hidden" not in quiet.output
    assert "[app] [DEBUG] hidden 1" in verbose.output


def test_the_last_words_of_a_dying_process_are_not_lost(write_module, run):
    write_module(
        "app",
        """
        @dramatiq.actor
        def work():
            for number in range(2000):
                print("line", number)
            print("famous last words", end="", flush=True)
            os._exit(7)
        """,
    )

    program = run("app", *ONE, "--die-with-child")

    assert program.wait() == 7
    assert "line 1999\nfamous last words\n" in program.output


def test_processes_can_be_spawned_instead_of_forked(write_module, run):
    write_module("app", "@dramatiq.actor\ndef work():\n    print('worked')\n")

    program = run("app", "-p", "2", "-t", "1", "--use-spawn").wait_until_ready(2)
    program.wait_for("worked", 2)

    assert program.stop() == 0


def test_every_process_draws_other_random_numbers(write_module, run):
    write_module("app", "import random\nprint('drawn', random.random())")

    program = run("app", "-p", "2", "-t", "1").wait_until_ready(2)

    drawn = [line for line in program.output.splitlines() if line.startswith("drawn")]
    assert len(set(drawn)) == 2


def test_version_and_help_go_to_standard_output():
    for option, text in (("--version", dramatiq.__version__), ("--help", "examples:")):
        done = subprocess.run(
            [sys.executable, "-m", "dramatiq", option],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

        assert done.returncode == 0
        assert text in done.stdout
        assert done.stderr == ""


def test_the_installed_script_is_the_same_program(tmp_path, write_module, run):
    write_module("app", "")
    script = Path(sys.executable).with_name("dramatiq")
    if not script.exists():
        pytest.skip("the package is not installed in this environment")

    program = run("app", *ONE, script=str(script)).wait_until_ready()

    assert program.stop() == 0


def test_a_namespace_of_an_older_parser_is_enough(tmp_path, write_module, run):
    write_module("app", "")
    script = tmp_path / "manage.py"
    script.write_text(
        "import argparse, sys\n"
        "from dramatiq.cli import main\n"
        "args = argparse.Namespace(broker='app', modules=[], processes=1, threads=1, path='.',\n"
        "    queues=None, log_file=None, skip_logging=False, use_spawn=False, forks=[],\n"
        "    worker_shutdown_timeout=1000, verbose=0, pid_file=None, watch=None)\n"
        "sys.exit(main(args))\n"
    )

    program = run(script=str(script)).wait_until_ready()

    assert program.stop() == 0

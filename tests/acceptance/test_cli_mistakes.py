"""What a user sees after a common mistake: the text, once, and the exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

APP = """
    class BrokerHolder:
        broker = broker
        fakebroker = object()

    fakebroker = object()

    @dramatiq.actor
    def add(a, b):
        return a + b
"""

MISTAKES = {
    "a typo in the module": (["ap"], 2, "Cannot import 'ap' from ", "Did you mean 'app'?"),
    "a typo in a further module": (["app", "mor"], 2, "Cannot import 'mor' from", "'more'?"),
    "a file": (["app.py"], 2, "'app.py' is a file", "Run `dramatiq app` instead."),
    "a path": (["./app.py"], 2, "'./app.py' is a file", "Run `dramatiq app` instead."),
    "an unknown variable": (
        ["app:idontexist"],
        2,
        "Module 'app' does not define a 'idontexist' variable.",
        "Brokers in it: app:broker.",
    ),
    "a typo in the variable": (
        ["app:brokr"],
        2,
        "Module 'app' does not define a 'brokr' variable.",
        "Did you mean 'broker'?",
    ),
    "another object": (
        ["app:fakebroker"],
        2,
        "'app:fakebroker' is not a Broker.",
        "It is of type 'object'.",
    ),
    "another object in a class": (
        ["app:BrokerHolder.fakebroker"],
        2,
        "'app:BrokerHolder.fakebroker' is not a Broker.",
        "It is of type 'object'.",
    ),
    "an actor": (["app:add"], 2, "'app:add' is not a Broker. It is an actor", "`dramatiq app`"),
    "no module at all": ([], 2, "usage: dramatiq", "the following arguments are required: broker"),
    "no processes": (["app", "-p", "0"], 2, "usage: dramatiq", "must be 1 or more, not 0."),
    "no threads": (["app", "-t", "0"], 2, "usage: dramatiq", "must be 1 or more, not 0."),
    "no such option": (["app", "--nope"], 2, "usage: dramatiq", "unrecognized arguments: --nope"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_on_the_command_line_is_explained_once(write_module, run, name):
    arguments, expected_code, *texts = MISTAKES[name]
    write_module("app", APP)
    write_module("more", "", preamble="")

    program = run(*arguments, *([] if "-p" in arguments else ["-p", "3"] if arguments else []))
    code = program.wait()

    assert code == expected_code
    for text in texts:
        assert program.output.count(text) == 1
    assert "Traceback" not in program.output


@pytest.mark.parametrize(
    ("source", "expected_code", "last_line"),
    [
        ("import surely_not_installed", 2, "No module named 'surely_not_installed'"),
        ("raise ValueError('no settings')", 1, "ValueError: no settings"),
        ("def f(:", 1, "SyntaxError: "),
        ("raise dramatiq.ConnectionFailed('refused')", 3, "ConnectionFailed: refused"),
        ("sys.exit('no settings')", 1, "called sys.exit('no settings')"),
        (
            "def add(): pass\ndramatiq.actor(add)\ndramatiq.actor(add)",
            1,
            "An actor named 'add' is already registered.\nThe first is declared at ",
        ),
        (
            "@dramatiq.actor(max_retires=3)\ndef add(): pass",
            1,
            "undefined: max_retires (did you mean 'max_retries'?). Did you forget to add a",
        ),
        (
            "sys.modules['pylibmc'] = None\nimport dramatiq.results.backends.memcached",
            2,
            "need the package pylibmc: pip install 'dramatiq[memcached]'",
        ),
    ],
)
def test_a_module_that_fails_is_shown_from_the_users_file_down(
    write_module, run, source, expected_code, last_line
):
    write_module("app", source)

    program = run("app", "-p", "3")
    code = program.wait()

    assert code == expected_code
    assert program.output.count("[ERROR]") == 1
    assert last_line in program.output
    assert 'app.py", line' in program.output
    assert "importlib" not in program.output
    assert "dramatiq/cli" not in program.output


def test_all_frames_are_shown_with_verbose(write_module, run):
    write_module("app", "raise ValueError('no settings')")

    program = run("app", "-p", "1", "-v")

    assert program.wait() == 1
    assert "importlib" in program.output


def test_a_thread_of_the_application_does_not_keep_a_failed_boot_alive(write_module, run):
    write_module(
        "app",
        """
        threading.Thread(target=time.sleep, args=(60,)).start()
        raise ValueError("with a thread that is still running")
        """,
    )

    program = run("app", "-p", "2")

    assert program.wait() == 1


NO_SERVER = """
from dramatiq.brokers.redis import RedisBroker
broker = RedisBroker(url="redis://user:secret@127.0.0.1:1/0")
dramatiq.actor(print, broker=broker).send()
"""

SENDING = {
    "an argument that is no JSON": (
        "import datetime\nadd.send(1, datetime.date(2030, 1, 1))",
        1,
        ["TypeError: add(): argument 'b' (date) cannot be encoded by JSONEncoder"],
    ),
    "too few arguments": ("add.send(1)", 0, ["add(): argument 'b' missing. The message is sent"]),
    "a misspelt option": (
        "add.send_with_options(args=(1, 2), dely=1000)",
        0,
        ["knows the message option 'dely'. Did you mean 'delay'?"],
    ),
    "a result without a backend": (
        "add.send(1, 2).get_result()",
        1,
        ["The broker doesn't have a results backend.", "broker.add_middleware(dramatiq.results"],
    ),
    "a broker that is down": (
        NO_SERVER,
        1,
        ["Cannot connect to Redis at 127.0.0.1:1/0. Does it run?"],
    ),
}


@pytest.mark.parametrize("name", SENDING)
def test_a_mistake_of_a_sender_is_explained_where_it_is_made(tmp_path, write_module, name):
    source, expected_code, texts = SENDING[name]
    write_module("app", APP)

    done = subprocess.run(
        [sys.executable, "-c", f"from app import add, dramatiq\n{source}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == expected_code
    for text in texts:
        assert text in done.stderr
    assert "secret" not in done.stderr


def test_a_message_for_an_unknown_actor_is_explained_without_a_traceback(write_module, run):
    write_module(
        "app",
        """
        @dramatiq.actor
        def work():
            broker.enqueue(dramatiq.Message("default", "work2", (), {}, {}))
        """,
    )

    program = run("app", "-p", "1", "-t", "1").wait_for("which is not declared here (known: work)")

    assert "of queue 'default' is for actor 'work2'" in program.output
    assert "Did you mean 'work'?" in program.output
    assert program.stop() == 0
    assert "Traceback" not in program.output

"""Bursts, checks, strictness, excluded queues and JSON logs, as seen from outside."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ONE = ("-p", "1", "-t", "2")

MAIL = """
    @dramatiq.actor
    def add(a, b):
        return a + b

    @dramatiq.actor(queue_name="mail")
    def send_mail():
        pass
"""


@pytest.fixture
def url(request):
    if getattr(request, "param", "sqlite") == "redis":
        return request.getfixturevalue("redis_server").url.removesuffix("/0") + "/9"
    return "sqlite:///dramatiq.db"


@pytest.fixture
def send(tmp_path, monkeypatch, write_module, url):
    """Write an application, and run a line of Python with it."""
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", url)
    write_module(
        "app",
        """
        @dramatiq.actor
        def spread(depth):
            print("ran", depth)
            for _ in range(2 if depth else 0):
                spread.send(depth - 1)

        @dramatiq.actor(max_retries=1, min_backoff=60_000)
        def fail():
            raise ValueError("later")
        """,
        preamble="import dramatiq\n",
    )

    def run_line(line):
        subprocess.run(
            [sys.executable, "-c", f"from app import *; {line}"],
            cwd=tmp_path,
            check=True,
            timeout=30,
        )

    return run_line


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_a_burst_ends_when_nothing_is_left_that_is_due(run, send):
    send("spread.send(6); fail.send(); spread.send_with_options(args=(99,), delay=60_000)")
    send("spread.send_with_options(args=(0,), delay=1)")  # due by the time it is looked for

    program = run("app", "-p", "2", "-t", "2", "--burst")

    assert program.wait() == 0
    assert program.output.count("ran ") == 2**7 - 1 + 1
    assert "ran 99" not in program.output
    assert program.output.count("has nothing left to do") == 2


def test_a_burst_on_empty_queues_ends_at_once_with_its_fork_functions(run, send, write_module):
    write_module("forks", "import signal\ndef fork():\n    signal.pause()\n", preamble="")

    program = run("app", *ONE, "--burst", "-f", "forks:fork")

    assert program.wait() == 0


def test_a_worker_that_crashes_in_a_burst_is_replaced(run, write_module, send):
    write_module(
        "app",
        """
        @dramatiq.actor
        def work():
            if not os.path.exists("crashed"):
                open("crashed", "w").close()
                os._exit(0)
            print("worked")
        """,
        preamble="import os\nimport dramatiq\n",
    )
    send("work.send()")

    burst = run("app", *ONE, "--burst")

    assert burst.wait() == 0
    assert "starts again" in burst.output
    # What brought a process down waits for a second, and nobody waits for it in a burst.
    program = run("app", *ONE).wait_for("worked")
    assert program.stop() == 0


def test_excluded_queues_are_not_served(write_module, run):
    write_module("app", MAIL)

    program = run("app", *ONE, "--exclude-queues", "mail,mial").wait_for("queue default: add")
    program.wait_for("No actor uses queue 'mial'").stop()

    assert "queue mail" not in program.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["app", "-Q", "mial"], "No actor uses queue 'mial' (known: default, mail)."),
        (["app", "--exclude-queues", "mial"], "Did you mean 'mail'?"),
        (["app", "--exclude-queues", "mail,default"], "no actor is served: none uses these"),
        (["empty"], "no actor is served: nothing was imported that declares one"),
    ],
)
@pytest.mark.parametrize("mode", ["run", "check"])
def test_warnings_are_errors_with_strict(write_module, run, arguments, text, mode):
    write_module("app", MAIL)
    write_module("empty", "")

    program = run(*arguments, "-p", "2", "--strict", *(["--check"] if mode == "check" else []))

    assert program.wait() == 2
    assert program.output.count(text) == 1
    assert "Traceback" not in program.output


def test_a_check_tells_that_all_is_well(write_module, run, send):
    program = run("app", "--check", "--strict")

    assert program.wait() == 0
    assert "queue default: fail, spread" in program.output
    assert "The application is fine. Its broker, SQLiteBroker at sqlite:///" in program.output
    assert "answers" in program.output


@pytest.mark.parametrize(
    ("source", "code", "text"),
    [
        ("import surely_not_installed", 2, "No module named 'surely_not_installed'"),
        ("raise ValueError('no settings')", 1, "ValueError: no settings"),
        ("import dramatiq\nraise dramatiq.ConnectionFailed('refused')", 3, "refused"),
    ],
)
def test_a_check_finds_what_does_not_boot(write_module, run, source, code, text):
    write_module("app", source, preamble="")

    program = run("app", "--check")

    assert program.wait() == code
    assert text in program.output


@pytest.mark.parametrize(
    "url", ["sqlite:///no-such-folder/queue.db", "redis://user:secret@127.0.0.1:1/0"]
)
def test_a_check_ends_with_4_when_the_broker_cannot_be_reached(write_module, run, url):
    write_module("app", "import dramatiq\n@dramatiq.actor\ndef add(): pass\n", preamble="")

    program = run("app", "--check", environment={"DRAMATIQ_BROKER_URL": url})

    assert program.wait() == 4
    assert "cannot be reached" in program.output
    assert "Traceback" not in program.output
    assert "secret" not in program.output


def records_of(program):
    return [json.loads(line) for line in program.output.splitlines()]


def test_a_json_log_is_one_object_per_line(write_module, run):
    write_module(
        "app",
        """
        import logging
        print("while importing")

        @dramatiq.actor(max_retries=0)
        def work():
            print("printed", "größe")
            logging.getLogger("mine").warning("logged %d", 1)
            raise ValueError("on purpose")

        @dramatiq.actor(max_retries=0)
        async def later():
            logging.getLogger("mine").warning("logged async")

        later.send()
        """,
    )

    program = run("app", *ONE, "--log-format", "json").wait_for("on purpose")
    program.wait_for("logged async").wait_until_ready()
    code = program.stop()

    records = records_of(program)
    by_text = {record["message"]: record for record in records}
    assert code == 0
    assert all(
        {"time", "level", "logger", "pid", "thread", "message"} <= record.keys()
        for record in records
    )
    assert by_text["while importing"]["logger"] == "stdout"
    for text in ("printed größe", "logged 1", "logged async"):
        assert by_text[text]["queue"] == "default"
        assert len(by_text[text]["message_id"]) == 36
    assert by_text["logged 1"]["actor"] == "work"
    assert by_text["logged async"]["actor"] == "later"
    (failure,) = [record for record in records if "ValueError" in record.get("exception", "")]
    assert failure["level"] == "ERROR"
    assert failure["actor"] == "work"
    assert "message_id" not in by_text["Worker process is ready."]
    assert any(record["logger"] == "dramatiq.MainProcess" for record in records)


def test_each_line_of_a_json_log_tells_which_attempt_of_which_message_it_is_of(write_module, run):
    write_module(
        "app",
        """
        import asyncio, logging
        from dramatiq.middleware import CurrentMessage

        broker.add_middleware(CurrentMessage())
        mine = logging.getLogger("mine")

        def say(what):
            message = CurrentMessage.get_current_message()
            mine.warning("%s of %s", what, message.message_id)

        @dramatiq.actor(max_retries=1, min_backoff=1, max_backoff=1)
        def plain():
            say("plain")
            print("printed")
            raise ValueError("on purpose")

        @dramatiq.actor(max_retries=1, min_backoff=1, max_backoff=1)
        async def slow():
            await asyncio.sleep(0.01)
            say("awaited")
            await asyncio.gather(asyncio.to_thread(say, "in a thread"), also())
            raise ValueError("on purpose")

        async def also():
            await asyncio.sleep(0.01)
            say("in a task")

        for _ in range(5):
            plain.send()
            slow.send()
        """,
    )

    program = run("app", *ONE, "--log-format", "json").wait_for("Retries exceeded", 10)
    program.stop()

    records = records_of(program)
    said = [record for record in records if record["logger"] == "mine"]
    assert len(said) == 2 * 5 * (1 + 3)
    for record in said:
        assert record["message"].endswith(record["message_id"])
    for message_id in {record["message_id"] for record in said}:
        own = [record for record in records if record.get("message_id") == message_id]
        assert {1, 2} == {record["attempt"] for record in own}
        assert {"default"} == {record["queue"] for record in own}
        assert 1 == len({record["actor"] for record in own})
        # Ours too, though the message itself counts on when it has failed.
        [retrying] = [each for each in own if each["message"].startswith("Retrying")]
        [given_up] = [each for each in own if each["message"].startswith("Retries exceeded")]
        assert (1, 2) == (retrying["attempt"], given_up["attempt"])
    assert 10 == sum(record["message"] == "printed" for record in records)

"""Sentry's own integration, unmodified, with a transport that writes to a file."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import eventually

ONE = ("--processes", "1", "--threads", "2")

PREAMBLE = """\
import json, logging, os
import sentry_sdk
from sentry_sdk.integrations.dramatiq import DramatiqIntegration
from sentry_sdk.transport import Transport


class Files(Transport):
    def capture_envelope(self, envelope):
        with open("items.jsonl", "a") as file:
            for item in envelope.items:
                content = item.payload.json or json.loads(item.payload.get_bytes())
                file.write(json.dumps([item.type, content], default=str) + "\\n")


sentry_sdk.init(
    dsn="http://key@127.0.0.1:1/1",
    transport=Files,
    integrations=[DramatiqIntegration()],
    traces_sample_rate=1.0,
)

import dramatiq
from dramatiq.brokers.sqlite import SQLiteBroker

broker = SQLiteBroker(path="dramatiq.db")
dramatiq.set_broker(broker)


class AtStart(dramatiq.Middleware):
    # Sends what the test is about, in a transaction of its own, as soon as the worker runs.
    def after_worker_boot(self, broker, worker):
        with sentry_sdk.start_transaction(name="sender"):
            send_all()


broker.add_middleware(AtStart())

"""


class Reported:
    """What the SDK has handed to its transport so far."""

    def __init__(self, directory):
        self._path = directory / "items.jsonl"

    def _items(self, kind):
        if not self._path.exists():
            return []
        # The last line may still be on its way.
        lines = self._path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        return [content for each, content in map(json.loads, lines) if each == kind]

    @property
    def errors(self):
        return self._items("event")

    @property
    def transactions(self):
        return {each["transaction"]: each for each in self._items("transaction")}

    def wait_for(self, *names):
        """Wait until the transactions of these actors have ended."""
        eventually(lambda: set(names) <= self.transactions.keys(), f"the end of {names}")
        return self


@pytest.fixture
def reported(tmp_path):
    return Reported(tmp_path)


def crumbs_of(event):
    return [crumb["message"] for crumb in event["breadcrumbs"]["values"]]


def test_an_error_is_reported_once_with_its_message_and_its_own_breadcrumbs(
    write_module, run, reported
):
    write_module(
        "app",
        """
        @dramatiq.actor(max_retries=0)
        def plain(name):
            sentry_sdk.add_breadcrumb(message=f"{name} was here")
            sentry_sdk.set_tag("name", name)
            raise ValueError(f"{name} did it")

        @dramatiq.actor(max_retries=0)
        async def coroutine(name):
            sentry_sdk.add_breadcrumb(message=f"{name} was here")
            sentry_sdk.set_tag("name", name)
            raise ValueError(f"{name} did it")

        def send_all():
            plain.send("ann")
            coroutine.send("bob")
        """,
        preamble=PREAMBLE,
    )

    program = run("app", *ONE)
    reported.wait_for("sender", "plain", "coroutine")
    assert program.stop() == 0

    assert len(reported.errors) == 2
    sender = reported.transactions["sender"]["contexts"]["trace"]["trace_id"]
    for actor, name in (("plain", "ann"), ("coroutine", "bob")):
        [event] = [each for each in reported.errors if each["transaction"] == actor]
        [exception] = event["exception"]["values"]
        assert ("ValueError", f"{name} did it") == (exception["type"], exception["value"])
        # As with 2.x, it is our log record that is reported: it comes first, and the SDK takes
        # the integration's own for a duplicate.
        assert ("dramatiq.worker.WorkerThread", "error") == (event["logger"], event["level"])
        data = event["contexts"]["dramatiq"]["data"]
        assert ("default", actor, [name]) == (
            data["queue_name"],
            data["actor_name"],
            list(data["args"]),
        )
        assert data["message_id"] == event["extra"]["dramatiq_message_id"]
        assert {"name": name}.items() <= event["tags"].items()
        own = [crumb for crumb in crumbs_of(event) if crumb.endswith("was here")]
        assert own == [f"{name} was here"]
        trace = reported.transactions[actor]["contexts"]["trace"]
        assert ("queue.task.dramatiq", "internal_error") == (trace["op"], trace["status"])
        # It goes on with the trace in which it was sent, carried in the message's options.
        assert sender == trace["trace_id"] == event["contexts"]["trace"]["trace_id"]


#: Actors that end in each way, and a middleware that skips before one of them runs.
ENDS = """
from dramatiq.errors import Retry
from dramatiq.middleware import SkipMessage
from sentry_sdk.integrations.logging import ignore_logger

ignore_logger("dramatiq.worker.WorkerThread")

class Skip(dramatiq.Middleware):
    def before_process_message(self, broker, message):
        if message.actor_name == "held_up":
            message.fail()
            raise SkipMessage("not today")

broker.add_middleware(Skip())

@dramatiq.actor
def held_up():
    pass

@dramatiq.actor
def skips():
    sentry_sdk.add_breadcrumb(message="about to skip")
    raise SkipMessage("not today")

@dramatiq.actor(throws=KeyError)
def expected():
    raise KeyError("as always")

@dramatiq.actor(max_retries=1)
def again():
    if "retries" not in dramatiq.middleware.CurrentMessage.get_current_message().options:
        raise Retry("in a moment", delay=1)
    last.send()

@dramatiq.actor(max_retries=0)
def last():
    raise ValueError("the only one")

broker.add_middleware(dramatiq.middleware.CurrentMessage())

def send_all():
    held_up.send()
    skips.send()
    expected.send()
    again.send()
"""


def test_what_is_expected_or_skipped_is_no_error_and_every_message_has_a_transaction(
    write_module, run, reported
):
    write_module("app", ENDS, preamble=PREAMBLE)

    program = run("app", *ONE, "--threads", "1")
    reported.wait_for("held_up", "skips", "expected", "again", "last")
    assert program.stop() == 0

    [event] = reported.errors
    [exception] = event["exception"]["values"]
    assert ("the only one", "dramatiq") == (exception["value"], exception["mechanism"]["type"])
    # The scopes of those before it have been left: nothing of them is here.
    assert "about to skip" not in crumbs_of(event)
    for actor in ("held_up", "skips", "expected", "again"):
        assert "ok" == reported.transactions[actor]["contexts"]["trace"]["status"], actor

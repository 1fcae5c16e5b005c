"""Commands that look and act, on the embedded broker with real workers."""

from __future__ import annotations

import json
import re
from contextlib import closing
from textwrap import dedent

import pytest

from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.history.stores import SQLiteStore
from dramatiq.message import Message

from .conftest import eventually

APP = """\
import dramatiq


@dramatiq.actor(queue_name="mail", max_retries=0)
def mail(recipient, copies=1):
    if recipient == "nobody":
        raise ValueError("no such recipient")


@dramatiq.actor(queue_name="pictures", max_retries=0)
def resize(picture):
    raise RuntimeError("no memory")
"""


@pytest.fixture
def app(write_module):
    write_module("app", APP, preamble="")


@pytest.fixture
def work(run, command, app):
    """Run a worker until nothing is left to do."""

    def work_off():
        worker = run("app", "-p", "1", "-t", "2", environment=ENVIRONMENT).wait_until_ready()
        eventually(lambda: all(queue["ready"] == 0 for queue in queues(command)))
        assert worker.stop() == 0

    return work_off


ENVIRONMENT = {"DRAMATIQ_BROKER_URL": "sqlite:///dramatiq.db"}


def queues(command):
    return json.loads(command("queues", "app", "--json").stdout)


def counts(command):
    return {
        each["name"]: (each["ready"], each["delayed"], each["dead"]) for each in queues(command)
    }


def send(command, *arguments):
    done = command("enqueue", "app", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_was_sent_is_listed_and_can_be_purged(command, app):
    send(command, "mail", "ann")
    delayed = send(command, "mail", "bob", "--delay", "1h")

    assert counts(command) == {"mail": (1, 1, 0), "pictures": (0, 0, 0)}
    listed = command("messages", "--state", "delayed").stdout
    assert re.search(rf"{delayed}  mail   mail\('bob'\)  in 59m", listed)
    assert command("purge", "mail").returncode == 2
    assert command("purge", "mail", "--dry-run").returncode == 0
    assert command("purge", "mail", "--yes").stdout == "2 dropped\n"
    assert command("purge", "mail", "--yes").stdout == ""


def test_dead_letters_are_found_explained_requeued_and_deleted(command, work):
    dead = send(command, "mail", "nobody", "-k", "copies=2")
    send(command, "resize", "17")
    work()

    told = command("inspect", dead).stdout
    for text in ("state      dead", "arguments  'nobody'", "ValueError: no such recipient"):
        assert text in told.replace("0 = ", "")
    assert "copies = 2" in told
    assert dead in command("messages", "--state", "dead", "--error", "VALUEERROR").stdout
    assert command("requeue", "--queue", "mial").returncode == 2
    requeued = command("requeue", "--queue", "mail", "--yes", "--rate", "50/s")
    assert (requeued.returncode, requeued.stdout) == (0, "1 requeued\n")
    assert counts(command) == {"mail": (1, 0, 0), "pictures": (0, 0, 1)}
    assert command("delete", "--yes").stdout == "1 deleted\n"
    assert counts(command)["pictures"] == (0, 0, 0)


def test_a_paused_queue_is_left_alone_until_it_is_resumed(command, run, app):
    assert command("pause", "mail", "-a", "app").stdout == "mail: paused\n"
    send(command, "mail", "ann")
    send(command, "resize", "17")
    worker = run("app", "-p", "1", environment=ENVIRONMENT).wait_until_ready()

    eventually(lambda: counts(command)["pictures"] == (0, 0, 1))
    assert counts(command)["mail"] == (1, 0, 0)
    assert [each["is_paused"] for each in queues(command)] == [True, False]
    assert command("resume", "mail").returncode == 0
    eventually(lambda: counts(command)["mail"] == (0, 0, 0))
    assert worker.stop() == 0


def test_workers_and_the_whole_are_told_on_one_screen(command, run, app):
    send(command, "mail", "ann", "--delay", "1h")
    worker = run("app", "-p", "1", environment=ENVIRONMENT).wait_until_ready()

    (registered,) = json.loads(command("workers", "--json").stdout)
    assert registered["pid"] in worker.worker_pids()
    screen = command("top", "--once").stdout
    assert str(registered["pid"]) in screen
    assert "mail " in screen
    assert worker.stop() == 0


def test_doctor_finds_the_file_fine_and_the_lost_queue(command, write_module, app):
    send(command, "resize", "17")

    fine = command("doctor", "app", "--json")
    write_module("app", "import dramatiq\n\n@dramatiq.actor\ndef other(): pass\n", preamble="")
    lost = command("doctor", "app")

    report = json.loads(fine.stdout)
    assert report["broker"]["ping_ms"] >= 0
    assert any("journal mode wal" in each["text"] for each in report["findings"])
    assert lost.returncode == 1
    assert "'pictures' holds 1 message, and no actor here uses it" in lost.stdout


def test_the_history_of_several_processes_outlives_them(command, run, write_module, tmp_path):
    history = """
    from dramatiq.history import History

    dramatiq.get_broker().add_middleware(History(redact={"copies"}))
    """
    write_module("app", APP.replace("import dramatiq\n", f"import dramatiq\n{dedent(history)}"), "")
    worker = run("app", "-p", "2", "-t", "2", environment=ENVIRONMENT).wait_until_ready(2)
    with closing(SQLiteBroker(path=tmp_path / "dramatiq.db", middleware=[])) as broker:
        broker.declare_queue("mail")
        done = [Message("mail", "mail", ("ann",), {"copies": 5}, {}) for _ in range(50)]
        failed = Message("mail", "mail", ("nobody",), {}, {})
        broker.enqueue_many([*done, failed])
        store = SQLiteStore(broker=broker)
        eventually(lambda: len(store.attempts(limit=100).attempts) == 51)
        ids = {each.message_id for each in store.attempts(limit=100).attempts}
    assert worker.stop() == 0

    assert ids == {each.message_id for each in (*done, failed)}
    told = command("inspect", done[7].message_id, "-a", "app").stdout
    for text in (
        "state      done; it is not stored any more",
        'arguments  {"args":["ann"],"kwargs":{"copies":"[redacted]"}}',
        "attempts   1. ",
    ):
        assert text in told
    told = command("inspect", failed.message_id, "-a", "app").stdout
    assert "state      dead" in told
    assert ": failed with ValueError: no such recipient, after " in told
    [entry] = json.loads(command("inspect", done[3].message_id, "-a", "app", "--json").stdout)
    assert [("done", 1)] == [(each["outcome"], each["number"]) for each in entry["attempts"]]

"""The parts of the command line that need no process: patterns, limits, the end of a burst."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from dramatiq.cli import limits
from dramatiq.cli.burst import BurstWatch
from dramatiq.cli.log_format import JSONFormatter, describe_gap
from dramatiq.cli.watching import SourceFilter


@pytest.mark.parametrize(
    ("include", "exclude", "matching", "others"),
    [
        (None, None, ["app.py", "deep/down/mail.py"], ["app.pyc", "notes.txt", "py"]),
        (["**.py"], [], ["app.py", "deep/down/mail.py"], ["app.html"]),
        (["**.py", "*.html"], [], ["page.html", "deep/page.html", "app.py"], ["page.htm"]),
        (["templates/*.html"], [], ["templates/a.html", "app/templates/a.html"], ["a.html"]),
        (["**.py"], ["generated/*"], ["app.py"], ["generated/app.py", "generated/deep/app.py"]),
        (["**.py"], ["*_test.py"], ["app.py"], ["app_test.py", "deep/app_test.py"]),
        (["**.py"], ["/work/app/old/*"], ["new/app.py"], ["old/app.py"]),
    ],
)
def test_patterns_are_compared_with_the_path_and_its_parts(include, exclude, matching, others):
    matters = SourceFilter("/work/app", include, exclude)

    assert all(matters(None, f"/work/app/{path}") for path in matching)
    assert not any(matters(None, f"/work/app/{path}") for path in others)


def finish(watched, count):
    for _ in range(count):
        watched.after_process_message(None, None)


def test_a_limit_of_messages_is_told_once_and_differs_between_processes():
    reached_at = set()
    for _ in range(50):
        told = []
        watched = limits.Limits(100, None, told.append)
        while not told:
            finish(watched, 1)
        reached_at.add(watched._processed)
        finish(watched, 200)
        assert len(told) == 1

    assert len(reached_at) > 1
    assert reached_at <= set(range(90, 101))


def test_a_small_limit_of_messages_is_exact():
    told = []
    watched = limits.Limits(1, None, told.append)

    watched.after_skip_message(None, None)

    assert told == ["has processed 1 messages and asks to be replaced"]


def test_memory_counts_only_once_a_message_was_processed(monkeypatch):
    monkeypatch.setattr(limits, "resident_bytes", lambda: 300 * limits.MIB)
    told = []
    watched = limits.Limits(None, 200, told.append)

    watched.look()
    before = list(told)
    finish(watched, 1)
    watched._next_look_at = 0
    watched.look()

    assert before == []
    assert told == ["takes 300 MiB, more than the 200 of --max-memory, and asks to be replaced"]


def test_memory_is_measured():
    assert limits.MIB < limits.resident_bytes() < 2**40
    assert limits.MIB < limits._peak_bytes() < 2**40


class FakeConsumer:
    def __init__(self):
        self.received = self.empty_fetches = 0


class FakeWorker:
    def __init__(self):
        self.is_busy = False
        self.consumers = {"default": FakeConsumer(), "default.DQ": FakeConsumer()}


def test_a_burst_is_over_after_two_empty_fetches_while_nothing_runs():
    worker = FakeWorker()
    watch = BurstWatch(worker)
    consumer = worker.consumers["default"]

    seen = [watch.is_over()]
    for _ in range(2):
        consumer.empty_fetches += 1
        seen.append(watch.is_over())
    worker.consumers["default.DQ"].empty_fetches += 2
    seen.append(watch.is_over())

    assert seen == [False, False, False, True]


@pytest.mark.parametrize("what", ["message", "work", "queue"])
def test_whatever_happens_meanwhile_begins_the_wait_anew(what):
    worker = FakeWorker()
    watch = BurstWatch(worker)
    consumer = worker.consumers["default"]
    watch.is_over()
    consumer.empty_fetches += 1

    if what == "message":
        consumer.received += 1
    elif what == "work":
        worker.is_busy = True
        watch.is_over()
        worker.is_busy = False
    else:
        worker.consumers["new"] = FakeConsumer()
    seen = [watch.is_over()]
    for _ in range(2):
        for each in worker.consumers.values():
            each.empty_fetches += 1
        seen.append(watch.is_over())

    assert seen == [False, False, True]


def test_a_record_becomes_an_object_on_one_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        exc_info = sys.exc_info()
    record = logging.LogRecord("mine", logging.ERROR, "", 0, "failed %s", ("ä\n",), exc_info)

    line = JSONFormatter().format(record)

    fields = json.loads(line)
    assert "\n" not in line
    assert fields["message"] == "failed ä\n"
    assert fields["level"] == "ERROR"
    assert fields["logger"] == "mine"
    assert fields["time"].endswith("+00:00")
    assert "ValueError: two\nlines" in fields["exception"]
    assert "message_id" not in fields


def test_a_gap_in_the_log_is_a_record_too():
    assert "3 lines of the log were dropped" in json.loads(describe_gap(3))["message"]

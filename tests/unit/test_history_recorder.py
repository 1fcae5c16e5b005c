from __future__ import annotations

import logging
import os
import threading

import pytest

from dramatiq.history import recorder as module
from dramatiq.history.recorder import Recorder
from dramatiq.testing.history_contract import make_attempt
from dramatiq.testing.waiting import run_together, wait_until


@pytest.fixture
def make_recorder():
    recorders = []

    def make(write):
        recorders.append(Recorder(write))
        return recorders[-1]

    yield make
    for recorder in recorders:
        recorder.stop()


def test_what_gathers_is_written_together(make_recorder):
    writes = []
    recorder = make_recorder(writes.append)
    attempts = [make_attempt() for _ in range(3)]

    for attempt in attempts:
        recorder.put(attempt)
    recorder.stop()

    assert writes == [attempts]


def test_an_attempt_is_written_without_anybody_asking(make_recorder):
    writes = []

    make_recorder(writes.append).put(make_attempt())

    wait_until(lambda: writes)


def test_nothing_is_written_twice_or_lost_by_flushing_and_stopping(make_recorder):
    written = []
    recorder = make_recorder(written.extend)

    def put_some(thread):
        for number in range(200):
            recorder.put(make_attempt(message_id=f"{thread}.{number}"))
            if number % 50 == 0:
                assert recorder.flush()

    run_together(4, put_some)
    assert recorder.flush()

    assert len(written) == len({each.message_id for each in written}) == 800


def test_stopping_is_harmless_twice_and_not_the_end(make_recorder):
    writes = []
    recorder = make_recorder(writes.append)

    recorder.stop()
    recorder.put(make_attempt())
    recorder.stop()
    recorder.stop()
    recorder.put(make_attempt())
    recorder.stop()

    assert [len(each) for each in writes] == [1, 1]
    assert "dramatiq-history" not in {thread.name for thread in threading.enumerate()}


def test_a_store_that_fails_costs_records_and_is_told_of_once(make_recorder, caplog):
    is_broken = True
    written = []

    def write(attempts):
        if is_broken:
            raise OSError("no disk")
        written.extend(attempts)

    recorder = make_recorder(write)
    for _ in range(3):
        recorder.put(make_attempt())
        recorder.flush()
    is_broken = False
    recorder.put(make_attempt())
    recorder.flush()

    assert len(written) == 1
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "no disk" in warnings[0]
    assert "lacks 3 attempts" in warnings[1]


def test_a_store_that_hangs_costs_records_instead_of_memory(make_recorder, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 5)
    may_go_on, is_writing = threading.Event(), threading.Event()
    written = []

    def write(attempts):
        is_writing.set()
        may_go_on.wait(10)
        written.extend(attempts)

    recorder = make_recorder(write)
    recorder.put(make_attempt())
    is_writing.wait(10)
    for _ in range(20):
        recorder.put(make_attempt())
    may_go_on.set()
    recorder.flush()

    assert len(written) == 6


def test_a_forked_child_writes_what_is_its_own(make_recorder, tmp_path):
    path = tmp_path / "written"

    def write(attempts):
        with path.open("a") as file:
            file.writelines(f"{each.message_id}\n" for each in attempts)

    recorder = make_recorder(write)
    recorder.put(make_attempt(message_id="parent"))
    child = os.fork()
    if child == 0:
        recorder.put(make_attempt(message_id="child"))
        recorder.stop()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    recorder.stop()

    assert sorted(path.read_text().split()) == ["child", "parent"]

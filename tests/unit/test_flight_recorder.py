from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from dramatiq import flight_recorder
from dramatiq.flight_recorder import RECORD_SIZE, FlightRecorder


@pytest.fixture
def recorder():
    recorder = FlightRecorder(3)
    yield recorder
    recorder.close()


def test_what_was_started_and_has_not_ended_is_running(recorder):
    recorder.begin(0, b"first")
    recorder.begin(1, b"second")
    recorder.begin(2, b"third")
    recorder.end(1)

    assert flight_recorder.read(recorder.name) == [b"first", b"third"]


def test_a_slot_is_used_again(recorder):
    recorder.begin(0, b"a longer one")
    recorder.end(0)
    recorder.begin(0, b"short")

    assert flight_recorder.read(recorder.name) == [b"short"]


def test_an_id_that_does_not_fit_is_left_out(recorder):
    recorder.begin(0, b"x" * RECORD_SIZE)
    recorder.begin(1, b"x" * (RECORD_SIZE - 1))

    assert flight_recorder.read(recorder.name) == [b"x" * (RECORD_SIZE - 1)]


def test_others_read_what_a_killed_process_was_running():
    code = """
import os, signal
from dramatiq.flight_recorder import FlightRecorder
recorder = FlightRecorder(2)
recorder.begin(1, b"the last one")
print(recorder.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=False
    )

    assert process.returncode == -signal.SIGKILL
    name = process.stdout.strip()
    assert flight_recorder.read(name) == [b"the last one"]
    flight_recorder.forget(name)
    assert flight_recorder.read(name) == []


def test_closing_removes_the_file_and_may_be_repeated(recorder):
    recorder.begin(0, b"first")

    recorder.close()
    recorder.close()

    assert flight_recorder.read(recorder.name) == []


@pytest.mark.parametrize("name", ["../dramatiq-flight-x", "passwd", "dramatiq-flight-a/b", ""])
def test_a_name_leads_nowhere_else(name, tmp_path, monkeypatch):
    (tmp_path / "passwd").write_bytes(b"\x04root")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    flight_recorder.forget(name)

    assert flight_recorder.read(name) == []
    assert (tmp_path / "passwd").exists()


def test_only_its_owner_can_read_the_file(recorder):
    path = flight_recorder._path_of(recorder.name)

    assert path.stat().st_mode & 0o077 == 0

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from dramatiq import flight_recorder
from dramatiq.flight_recorder import FlightReader, FlightRecorder
from dramatiq.flight_recorder.layout import LONGEST_LEASE, PROGRESS_CELLS, path_of


@pytest.fixture
def recorder():
    recorder = FlightRecorder(3)
    yield recorder
    recorder.close()


def test_what_was_started_and_has_not_ended_is_running(recorder):
    recorder.records[0].begin(b"first")
    recorder.records[1].begin(b"second")
    recorder.records[2].begin(b"third")
    recorder.records[1].end()

    assert flight_recorder.read(recorder.name) == [b"first", b"third"]


def test_a_slot_is_used_again(recorder):
    recorder.records[0].begin(b"a longer one")
    recorder.records[0].end()
    recorder.records[0].begin(b"short")

    assert flight_recorder.read(recorder.name) == [b"short"]


def test_an_id_that_does_not_fit_is_left_out(recorder):
    recorder.records[0].begin(b"x" * (LONGEST_LEASE + 1))
    recorder.records[1].begin(b"x" * LONGEST_LEASE)

    assert flight_recorder.read(recorder.name) == [b"x" * LONGEST_LEASE]


def test_others_read_what_a_killed_process_was_running():
    code = """
import os, signal
from dramatiq.flight_recorder import FlightRecorder
recorder = FlightRecorder(2)
recorder.records[1].begin(b"the last one")
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
    recorder.records[0].begin(b"first")

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
    path = path_of(recorder.name)

    assert path.stat().st_mode & 0o077 == 0


def test_a_living_process_shows_what_it_runs_and_until_when(recorder):
    recorder.records[1].begin(17, "wörk", "default")
    recorder.records[1].kill_at(1234.5)

    [running] = FlightReader(recorder.name).look().running

    assert (1, 1234.5, b"17") == (running.place, running.deadline, running.lease)
    assert ("wörk", "default") == (running.actor_name, running.queue_name)


def test_a_new_message_has_no_deadline_from_the_one_before(recorder):
    recorder.records[0].begin(b"first")
    recorder.records[0].kill_at(5.0)
    recorder.records[0].end()
    recorder.records[0].begin(b"second")

    [running] = FlightReader(recorder.name).look().running

    assert (b"second", 0.0) == (running.lease, running.deadline)


def test_what_has_no_lease_is_seen_and_not_blamed(recorder):
    recorder.records[0].begin(None, "work")

    assert flight_recorder.read(recorder.name) == []
    assert len(FlightReader(recorder.name).look().running) == 1


def test_names_that_are_too_long_or_not_printable_are_cut(recorder):
    recorder.records[0].begin(b"1", "x" * 500, "\ud800" * 500)

    [running] = FlightReader(recorder.name).look().running

    assert running.actor_name == "x" * 39
    assert running.lease == b"1"


def test_what_runs_in_a_process_that_was_asked_to_end_is_not_blamed(recorder):
    recorder.records[0].begin(b"1")

    recorder.stopping()

    assert flight_recorder.read(recorder.name) == []


def test_the_supervisor_may_say_who_is_to_blame(recorder):
    for place in range(3):
        recorder.records[place].begin(b"%d" % place)
    recorder.stopping()

    FlightReader(recorder.name).blame_only({1})

    assert flight_recorder.read(recorder.name) == [b"1"]


def test_the_supervisor_may_excuse_all(recorder):
    recorder.records[0].begin(b"1")

    FlightReader(recorder.name).excuse()

    assert flight_recorder.read(recorder.name) == []


def test_nobody_is_blamed_for_the_loss_of_power(recorder, monkeypatch):
    recorder.records[0].begin(b"1")

    monkeypatch.setattr("dramatiq.flight_recorder.reading.boot_id", lambda: b"another")

    assert flight_recorder.read(recorder.name) == []


def test_progress_is_counted_in_pulses(recorder):
    reader = FlightReader(recorder.name)
    progress = recorder.progress()

    progress.expect(2.5)
    assert (0, {0: 3}) == (reader.look().pulses, reader.look().expected)
    recorder.pulse()
    progress.expect(2.5)
    assert (1, {0: 4}) == (reader.look().pulses, reader.look().expected)
    progress.rest()
    assert reader.look().expected == {}


def test_there_are_only_so_many_places_for_progress(recorder):
    assert all(recorder.progress() for _ in range(PROGRESS_CELLS))
    assert recorder.progress() is None


STALE = """
import os, signal, sys, time
from dramatiq.flight_recorder import FlightRecorder
recorder = FlightRecorder(1)
if sys.argv[1] == "daemon" and not os.fork():
    print(os.getpid(), flush=True)
    time.sleep(60)
print(recorder.name, flush=True)
if sys.argv[1] != "live":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""


def test_only_files_of_processes_that_are_gone_are_stale(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    others = [
        tmp_path / name for name in ("dramatiq-flight-unfinished", "dramatiq-flight-a.b", "x")
    ]
    for each in others:
        each.touch()
    start = [sys.executable, "-c", STALE]
    environment = {"TMPDIR": str(tmp_path)}
    subprocess.run([*start, "dead"], env=environment, timeout=15, check=False, capture_output=True)
    with (
        subprocess.Popen(
            [*start, "live"], env=environment, stdout=subprocess.PIPE, text=True
        ) as live,
        subprocess.Popen(
            [*start, "daemon"], env=environment, stdout=subprocess.PIPE, text=True
        ) as late,
    ):
        name = live.stdout.readline().strip()
        daemon = next(int(line) for line in late.stdout if line.strip().isdigit())
        late.wait(15)

        stale = flight_recorder.find_stale()
        live.kill()
        os.kill(daemon, signal.SIGKILL)

    # Also that of a process whose child lives on.
    files = {each.name for each in tmp_path.iterdir()}
    assert len(stale) == 2
    assert stale == files - {each.name for each in others} - {name}


def test_looking_at_ones_own_recorder_leaves_its_lock_alone():
    recorder = flight_recorder.FlightRecorder(2)
    try:
        recorder.records[1].begin(7, "work", "default")

        sight = flight_recorder.look(recorder.name)

        assert [(1, b"7", "work")] == [(e.place, e.lease, e.actor_name) for e in sight.running]
        program = "from dramatiq import flight_recorder; print(flight_recorder.find_stale())"
        shown = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert recorder.name not in shown.stdout
    finally:
        recorder.close()


@pytest.mark.parametrize("name", ["dramatiq-flight-gone", "../etc/passwd"])
def test_a_recorder_that_is_not_there_runs_nothing(name):
    assert flight_recorder.look(name).running == []

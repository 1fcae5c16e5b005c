"""The example survey, from its command line: whole runs, killed runs, stopped runs."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0

NEW_LINE = b"\n"
BROKEN = {
    "broken.py": b"def (:\n",
    "alpha/print.py": b'print "hello"\n',
    "beta/print.py": b'print "hello"\n',
    "beta/coding.py": b"# coding: no-such-coding\n",
}
GOOD = b'''\
"""A module."""

import os
import json.decoder
from collections import abc


class Thing:
    def method(self, value):
        if value and self:
            return [each for each in value if each]
        return None


async def function():
    for each in (1, 2):
        print(each)
'''


def make_tree(folder, files):
    for index in range(files):
        package = folder / ("alpha", "beta", "gamma/delta")[index % 3]
        package.mkdir(parents=True, exist_ok=True)
        # Of different sizes, and long enough that a run has a middle.
        (package / f"module_{index}.py").write_bytes(GOOD * (1 + index % 40))
    for name, source in BROKEN.items():
        (folder / name).write_bytes(source)
    ignored = folder / "site-packages"
    ignored.mkdir()
    (ignored / "ignored.py").write_bytes(GOOD)
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tree"), files=300)


@pytest.fixture
def start(tmp_path):
    """Start a survey in a process group of its own; it ends with the test."""
    runs = []

    def start(source, folder="survey", *options):
        arguments = ["--folder", tmp_path / folder, "--source", source, *options]
        with (tmp_path / f"output-{len(runs)}").open("wb") as output:
            run = subprocess.Popen(
                [sys.executable, "-m", "examples.stdlib_survey", *map(str, arguments)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        run.output = Path(output.name)
        runs.append(run)
        return run

    yield start
    for run in runs:
        kill(run)


def kill(run):
    """Kill the program with its workers, whatever they are doing."""
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait(DEADLINE_S)


def finish(run, code=0):
    """Wait for a run to end, and return what it printed."""
    run.wait(DEADLINE_S)
    output = run.output.read_text(encoding="utf-8")
    assert run.returncode == code, output
    return output


def wait_for(database, condition):
    """Wait until the condition, in SQL, holds in a database that may not be there yet."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds(database, condition):
        assert time.monotonic() < deadline_s, f"{condition} did not hold in time"
        time.sleep(0.005)


def holds(database, condition):
    return database.exists() and query(database, f"SELECT {condition}") == [(1,)]


def query(database, statement):
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            # Killed, or looked at, before it was complete.
            if "no such table" in str(error):
                return None
            raise


def has_processes(group):
    """Tell whether anything of a process group is left; zombies do not count."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, process_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                return True
    return False


@pytest.fixture(scope="module")
def undisturbed(tree, tmp_path_factory):
    """Return the folder and the output of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = subprocess.run(
        [sys.executable, "-m", "examples.stdlib_survey", "--folder", folder, "--source", tree],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    return folder, run.stdout


def test_a_run_ends_with_the_report(undisturbed):
    folder, output = undisturbed

    report = (folder / "report.txt").read_text()
    assert report in output
    lines = {" ".join(line.split()) for line in report.splitlines()}
    assert {
        "packages 4",
        "files 300",
        f"lines {sum(1 + index % 40 for index in range(300)) * GOOD.count(NEW_LINE):,}",
        f"alpha/module_39.py {40 * GOOD.count(NEW_LINE)}",
        "os 300",
        "gamma.delta 2.00",
        "Files that could not be measured: 4",
        "SyntaxError: invalid syntax",
    } <= lines
    assert "ignored" not in report


def test_failures_are_retried_and_dead_lettered_for_real(undisturbed):
    folder, output = undisturbed

    dead = query(
        folder / "dramatiq.db",
        "SELECT json_extract(payload, '$.args[1]'), json_extract(payload, '$.options.retries') "
        "FROM messages WHERE state = 3",
    )
    assert sorted(BROKEN) == sorted(path for path, _ in dead)
    assert {3} == {failures for _, failures in dead}
    assert "Throughput: 304 files in " in output
    assert "Retries: 8\nDead letters: 4\n  2 x SyntaxError: Missing parentheses" in output


def test_a_run_killed_at_any_stage_continues_and_ends_with_the_same_report(
    start, tree, tmp_path, undisturbed
):
    findings, queue = (tmp_path / "survey" / name for name in ("findings.db", "dramatiq.db"))
    stages = [
        (findings, "EXISTS (SELECT 1 FROM survey)"),
        (queue, "EXISTS (SELECT 1 FROM messages)"),
        (findings, "(SELECT count(measurement) FROM files) >= 100"),
        (findings, "(SELECT count(measurement) FROM files) >= 200"),
        (findings, "EXISTS (SELECT 1 FROM packages)"),
        (findings, "EXISTS (SELECT 1 FROM survey WHERE name = 'report')"),
    ]

    for database, condition in stages:
        run = start(tree)
        wait_for(database, condition)
        kill(run)
    finish(start(tree))

    expected = (undisturbed[0] / "report.txt").read_bytes()
    assert expected == (tmp_path / "survey" / "report.txt").read_bytes()
    assert [("ok",)] == query(queue, "PRAGMA integrity_check")


def test_a_run_killed_in_the_middle_does_not_start_over(start, tree, tmp_path, undisturbed):
    run = start(tree)
    wait_for(tmp_path / "survey" / "findings.db", "(SELECT count(measurement) FROM files) >= 100")
    kill(run)

    output = finish(start(tree))

    first_line = output.splitlines()[0]
    done = int(first_line.partition("continuing: ")[2].split()[0])
    assert 100 <= done < 304
    assert f"Throughput: {304 - done} files in " in output
    expected = (undisturbed[0] / "report.txt").read_bytes()
    assert expected == (tmp_path / "survey" / "report.txt").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_workers_and_keeps_what_is_done(start, tree, tmp_path, number):
    run = start(tree)
    wait_for(tmp_path / "survey" / "findings.db", "(SELECT count(measurement) FROM files) >= 50")

    run.send_signal(number)
    output = finish(run, code=130)

    assert "Stopped. What is done is kept: run this again to continue." in output
    assert "Traceback" not in output
    assert not has_processes(run.pid)
    assert not holds(
        tmp_path / "survey" / "dramatiq.db", "EXISTS (SELECT 1 FROM messages WHERE state = 2)"
    )


def test_workers_that_outlived_their_program_are_stopped(start, tree, tmp_path, undisturbed):
    run = start(tree)
    wait_for(tmp_path / "survey" / "findings.db", "(SELECT count(measurement) FROM files) >= 50")
    os.kill(run.pid, signal.SIGKILL)
    run.wait(DEADLINE_S)
    assert has_processes(run.pid)

    output = finish(start(tree))

    assert output.startswith("Stopping the workers of an earlier run (process ")
    assert not has_processes(run.pid)
    expected = (undisturbed[0] / "report.txt").read_bytes()
    assert expected == (tmp_path / "survey" / "report.txt").read_bytes()


def test_a_second_run_at_the_same_time_is_refused(start, tree, tmp_path):
    run = start(tree)
    wait_for(tmp_path / "survey" / "findings.db", "(SELECT count(measurement) FROM files) >= 1")
    run.send_signal(signal.SIGSTOP)

    output = finish(start(tree), code=1)

    assert f"error: Another survey is at work in {tmp_path / 'survey'}." in output


def test_a_run_after_a_finished_one_surveys_anew(start, tmp_path):
    tree = make_tree(tmp_path / "tree", files=3)
    finish(start(tree))
    (tree / "broken.py").unlink()

    output = finish(start(tree))

    assert output.startswith("The last survey here is finished. Starting a new one.\n")
    assert "Files that could not be measured: 3" in output
    assert "Dead letters: 3" in output


def test_an_unfinished_survey_is_forgotten_only_when_asked(start, tree, tmp_path):
    run = start(tree)
    wait_for(tmp_path / "survey" / "findings.db", "(SELECT count(measurement) FROM files) >= 50")
    kill(run)
    other = make_tree(tmp_path / "other", files=3)

    refused = finish(start(other), code=1)
    accepted = finish(start(other, "survey", "--fresh"))

    assert f"holds an unfinished survey of {tree}." in refused
    assert "Throughput: 7 files in " in accepted
    assert "Dead letters: 4" in accepted


def test_what_cannot_be_finished_in_time_is_an_error(start, tree):
    output = finish(start(tree, "survey", "--timeout", "0"), code=1)

    assert "error: Not finished in time. Run this again to continue." in output


def test_a_folder_without_sources_is_an_error(start, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()

    output = finish(start(empty), code=1)

    assert f"error: There are no Python sources in {empty}." in output

"""The examples of the documentation run as they are printed.

The Python blocks of a page are one program, in the order of the page. A block that is not to be
run has the comment ``<!-- not run: why -->`` on a line before it. Lines keep their numbers, so a
traceback names the line of the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]

#: Seconds an example may take; those of one page together.
TIMEOUT_S = 50

SKIP = re.compile(r"<!-- not run: .+ -->")


def extract_program(text):
    """Return the Python blocks of a page, with blank lines in place of everything else."""
    program = []
    is_code = is_skipped = False
    for line in text.splitlines():
        is_fence = line.startswith("```")
        if is_code and not is_fence:
            program.append("" if is_skipped else line)
            continue
        program.append("")
        if is_fence:
            is_code = not is_code and line == "```python"
            is_skipped = is_code and is_skipped
        elif line.strip():
            is_skipped = SKIP.fullmatch(line) is not None
    return "\n".join(program)


PROGRAMS = {
    str(page.relative_to(PROJECT)): program
    for page in PAGES
    if "_build" not in page.parts
    if (program := extract_program(page.read_text(encoding="utf-8"))).strip()
}


def environment():
    """Return what a user's shell has: no settings of ours."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("DRAMATIQ_")
    }
    # A reader has the base install: here the package `redis` would decide on the broker.
    broker = {"DRAMATIQ_BROKER_URL": "sqlite:///dramatiq.db"}
    return {**inherited, **broker, "PYTHONPATH": str(PROJECT / "src")}


def run(arguments, folder):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_examples_of_a_page_run(page, tmp_path):
    program = tmp_path / Path(page).with_suffix(".py").name
    program.write_text(PROGRAMS[page], encoding="utf-8")

    finished = run(["-X", "dev", "-W", "error", program.name], tmp_path)

    assert finished.returncode == 0, finished.stdout


def test_a_block_keeps_its_line_numbers_and_others_are_left_out():
    page = "# Title\n\n```python\na = 1\n```\n\n```console\n$ ls\n```\n"

    assert extract_program(page) == "\n\n\na = 1\n\n\n\n\n"


def test_a_block_with_a_reason_is_not_run():
    page = "<!-- not run: needs a server -->\n\n```python\nfail()\n```\n\n```python\na = 1\n```"

    assert extract_program(page).split() == ["a", "=", "1"]


def test_the_first_page_needs_two_commands(tmp_path):
    page = (PROJECT / "docs" / "getting-started.md").read_text(encoding="utf-8")
    (tmp_path / "greeting.py").write_text(extract_program(page), encoding="utf-8")
    send = re.search(r'^\$ python (-c) "(.+)"$', page, re.MULTILINE).groups()
    assert "\n$ dramatiq greeting\n" in page

    sent = run(send, tmp_path)
    assert sent.returncode == 0, sent.stdout
    output, exit_code = run_worker_until(tmp_path, "Hello, world!")

    assert "Hello, world!" in output
    assert exit_code == 0, output


def run_worker_until(folder, text):
    """Run the worker of the page until it prints ``text``, then stop it."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "dramatiq", "greeting", "-p", "1"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    # Also ends the reading below when the text never comes.
    deadline = Timer(TIMEOUT_S, worker.kill)
    deadline.start()
    try:
        lines = []
        for line in worker.stdout:
            lines.append(line)
            if text in line:
                worker.terminate()
    finally:
        deadline.cancel()
        worker.stdout.close()
    return "".join(lines), worker.wait(TIMEOUT_S)


def test_the_state_table_names_the_statements_there_are():
    page = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folder = PROJECT / "src" / "dramatiq" / "brokers" / "sqlite" / "sql"
    changing = {
        path.name
        for path in folder.glob("*.sql")
        if re.search(r"^(INSERT|UPDATE|DELETE)\b.*\bmessages\b", path.read_text(), re.MULTILINE)
    }

    named = set(re.findall(r"`(\w+\.sql)`", page))

    assert changing <= named
    assert named <= {path.name for path in folder.glob("*.sql")}


def test_the_page_on_redis_names_the_scripts_there_are():
    page = (PROJECT / "docs" / "redis.md").read_text(encoding="utf-8")
    folder = PROJECT / "src" / "dramatiq" / "brokers" / "redis" / "scripts"

    named = set(re.findall(r"`(\w+\.lua)`", page))

    assert named == {path.name for path in folder.glob("*.lua")}

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dramatiq.cli.pidfile import PidFileError, remove_pidfile, setup_pidfile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dramatiq.pid"


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(30)
    return process.pid


def test_a_missing_file_is_written_for_everybody_to_read(path):
    previous = os.umask(0o077)
    try:
        pid = setup_pidfile(str(path))
    finally:
        os.umask(previous)

    assert pid == os.getpid()
    assert path.read_text() == str(os.getpid())
    assert path.stat().st_mode & 0o777 == 0o644


def test_our_own_file_is_kept_as_after_a_reload(path):
    path.write_text(f"{os.getpid()}\n")

    assert setup_pidfile(str(path)) == os.getpid()


def test_the_file_of_a_dead_process_is_replaced(path, dead_pid):
    path.write_text(str(dead_pid))

    setup_pidfile(str(path))

    assert path.read_text() == str(os.getpid())


def test_the_file_of_a_running_process_is_respected(path):
    path.write_text(str(os.getppid()))

    with pytest.raises(PidFileError, match=f"Process {os.getppid()} is already running"):
        setup_pidfile(str(path))

    assert path.read_text() == str(os.getppid())


@pytest.mark.parametrize("content", ["", "important", "0", "-1", "12.5"])
def test_a_file_that_holds_no_process_id_is_left_untouched(path, content):
    path.write_text(content)

    with pytest.raises(PidFileError, match="no process id"):
        setup_pidfile(str(path))

    assert path.read_text() == content


def test_a_number_too_large_for_a_process_is_stale(path):
    path.write_text("9" * 30)

    setup_pidfile(str(path))

    assert path.read_text() == str(os.getpid())


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(PidFileError, match="Cannot use the PID file"):
        setup_pidfile(str(tmp_path / "missing" / "file"))


def test_a_link_to_nowhere_is_not_followed(path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PidFileError):
        setup_pidfile(str(path))

    assert not (tmp_path / "elsewhere").exists()


def test_removing_is_harmless_twice(path):
    setup_pidfile(str(path))

    remove_pidfile(str(path))
    remove_pidfile(str(path))

    assert not path.exists()

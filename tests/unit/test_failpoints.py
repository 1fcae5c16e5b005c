from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from dramatiq.failpoints import VARIABLE, hit

#: Seconds a child process may take.
DEADLINE_S = 15


def run(armed, code):
    """Run code in a process with failpoints."""
    return subprocess.run(
        [sys.executable, "-c", f"from dramatiq.failpoints import hit\n{code}"],
        env={**os.environ, VARIABLE: armed},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_nothing_happens_where_nothing_is_armed():
    hit("some.step")

    assert run("another.step=kill", "hit('some.step'); print('alive')").stdout == "alive\n"


def test_kill_ends_the_process_as_the_kernel_would():
    process = run("some.step=kill", "hit('some.step'); print('alive')")

    assert process.returncode == -signal.SIGKILL
    assert process.stdout == ""


def test_raise_raises_an_error_that_names_the_step():
    process = run("some.step=raise", "hit('some.step')")

    assert process.stderr.endswith("OSError: failpoint some.step\n")


def test_stop_stops_the_process_until_somebody_lets_it_go_on():
    with subprocess.Popen(
        [sys.executable, "-c", "from dramatiq.failpoints import hit; hit('some.step')"],
        env={**os.environ, VARIABLE: "some.step=stop"},
        stderr=subprocess.DEVNULL,
    ) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)

        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.wait(DEADLINE_S) == 0


def test_a_number_chooses_one_hit_and_each_step_counts_its_own():
    code = """
for number in range(1, 5):
    hit('another.step')
    try:
        hit('some.step')
    except OSError:
        print(number)
"""

    assert run("some.step=raise@3,another.step=raise@9", code).stdout == "3\n"


def test_what_happens_is_logged_first():
    process = run("some.step=kill", "hit('some.step')")

    assert process.stderr == "Failpoint some.step: kill.\n"


@pytest.mark.parametrize("armed", ["some.step", "some.step=explode", "some.step=kill@soon", "=="])
def test_what_cannot_be_understood_ends_the_program_at_once(armed):
    process = run(armed, "print('alive')")

    assert process.returncode == 1
    assert process.stdout == ""
    assert f"ValueError: {VARIABLE}: {armed!r} must be name=kill" in process.stderr


def test_threads_share_the_count():
    code = """
from concurrent.futures import ThreadPoolExecutor
def count(_):
    try:
        hit('some.step')
    except OSError:
        return 1
    return 0
with ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(count, range(100))))
"""

    assert run("some.step=raise@50", code).stdout == "1\n"

"""Async actors in the real program."""

from __future__ import annotations

import importlib.util
import os

import pytest

APPLICATION = """
    import asyncio

    @dramatiq.actor
    async def work():
        print("loop of", type(asyncio.get_running_loop()).__module__)
    """


def test_async_actors_run_on_uvloop_if_asked(write_module, run):
    if importlib.util.find_spec("uvloop") is None:
        message = "uvloop is not installed: pip install 'dramatiq[uvloop]'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    write_module("app", APPLICATION)

    program = run("app", "-p", "1", "--async-uvloop").wait_for("loop of uvloop")

    assert program.stop() == 0


def test_async_actors_run_on_asyncio_unless_asked(write_module, run):
    write_module("app", APPLICATION)

    program = run("app", "-p", "1").wait_for("loop of asyncio")

    assert program.stop() == 0


def test_where_uvloop_is_missing_it_says_how_to_install_it(write_module, run):
    write_module("app", APPLICATION)
    write_module("uvloop", "raise ImportError('not here')", preamble="")

    program = run("app", "-p", "1", "--async-uvloop")

    assert program.wait() == 2
    assert "Install it with: pip install 'dramatiq[uvloop]'" in program.output
    assert "Traceback" not in program.output

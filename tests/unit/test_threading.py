from __future__ import annotations

import logging
import platform
import sys
import threading
import types

import pytest

from dramatiq import threading as interrupts
from dramatiq.middleware import threading as reexported
from dramatiq.threading import (
    Interrupt,
    current_platform,
    is_gevent_active,
    raise_thread_exception,
    supported_platforms,
)

#: Seconds after which a test gives up.
DEADLINE_S = 5


class Stop(Interrupt):
    pass


class Spinning(threading.Thread):
    """Runs Python code until something is raised in it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.is_spinning = threading.Event()
        self.may_end = threading.Event()
        self.caught = None

    def run(self):
        try:
            self.is_spinning.set()
            while not self.may_end.wait(0.001):
                pass
        except BaseException as error:
            self.caught = error


@pytest.fixture
def spinning():
    thread = Spinning()
    thread.start()
    assert thread.is_spinning.wait(DEADLINE_S)
    yield thread
    thread.may_end.set()
    thread.join(DEADLINE_S)


def test_the_platform_is_that_of_the_interpreter():
    assert current_platform == platform.python_implementation()
    assert supported_platforms == {"CPython"}


def test_an_exception_is_raised_in_another_thread(spinning):
    raise_thread_exception(spinning.ident, Stop)

    spinning.join(DEADLINE_S)
    assert type(spinning.caught) is Stop


def test_an_instance_can_be_raised_too(spinning):
    error = Stop("because")

    raise_thread_exception(spinning.ident, error)

    spinning.join(DEADLINE_S)
    assert spinning.caught is error


def test_an_unknown_thread_is_logged_and_nothing_is_raised(caplog):
    caplog.set_level(logging.DEBUG)
    thread_id = 2**40 + 1

    raise_thread_exception(thread_id, Interrupt)

    assert caplog.record_tuples == [
        (
            "dramatiq.threading",
            logging.CRITICAL,
            f"Failed to set exception (Interrupt) in thread {thread_id}.",
        )
    ]


def test_an_unsupported_platform_is_logged_and_nothing_is_raised(caplog, monkeypatch, spinning):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(interrupts, "current_platform", "not supported")

    raise_thread_exception(spinning.ident, Interrupt)

    assert caplog.record_tuples == [
        (
            "dramatiq.threading",
            logging.CRITICAL,
            (
                "Setting thread exceptions (Interrupt) is not supported "
                "for your current platform ('not supported')."
            ),
        )
    ]
    assert spinning.is_alive()


def test_gevent_is_not_active_when_nothing_was_patched(monkeypatch):
    monkeypatch.setitem(sys.modules, "gevent.monkey", types.SimpleNamespace(saved={}))

    assert not is_gevent_active()


def test_gevent_is_active_when_it_patched_something(monkeypatch):
    patched = types.SimpleNamespace(saved={"socket": {}})
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)

    assert is_gevent_active()


def test_gevent_is_not_imported_to_ask(monkeypatch):
    monkeypatch.delitem(sys.modules, "gevent.monkey", raising=False)

    assert not is_gevent_active()
    assert "gevent.monkey" not in sys.modules


@pytest.mark.parametrize("name", interrupts.__all__)
def test_the_old_path_leads_to_the_same(name):
    assert getattr(reexported, name) is getattr(interrupts, name)

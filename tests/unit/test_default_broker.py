from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys

import pytest

from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.default_broker import choose_broker


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def without_redis(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "dramatiq.default_broker.importlib.util.find_spec",
        lambda name: None if name == "redis" else find_spec(name),
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("stub://", StubBroker),
        ("sqlite:///queue.db", SQLiteBroker),
        ("redis://127.0.0.1:1/0", RedisBroker),
        ("rediss://127.0.0.1:1/0", RedisBroker),
        ("unix:///nowhere.sock", RedisBroker),
    ],
)
def test_the_environment_decides(monkeypatch, url, expected):
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", url)

    assert type(choose_broker()) is expected


def test_a_scheme_that_no_broker_serves_is_refused_with_those_that_are(monkeypatch):
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", "kafka://localhost")

    with pytest.raises(ValueError, match=r"'kafka'.*Known: .*sqlite://.*redis://"):
        choose_broker()


def test_redis_is_used_where_its_package_is_installed(caplog):
    caplog.set_level(logging.INFO)

    assert isinstance(choose_broker(), RedisBroker)
    assert "because the package 'redis' is installed" in caplog.text
    assert "localhost:6379" in caplog.text


def test_the_embedded_broker_is_used_where_nothing_else_is_there(without_redis, caplog):
    caplog.set_level(logging.INFO)

    assert isinstance(choose_broker(), SQLiteBroker)
    assert "embedded SQLite broker" in caplog.text


def test_a_broker_that_was_chosen_says_why(monkeypatch, without_redis):
    assert "no client library" in choose_broker().chosen_because

    monkeypatch.setenv("DRAMATIQ_BROKER_URL", "stub://")
    assert choose_broker().chosen_because == "DRAMATIQ_BROKER_URL is set"
    assert StubBroker().chosen_because is None


def test_a_broker_whose_client_library_is_missing_says_what_to_install():
    code = (
        "import sys; sys.modules['redis'] = None; "
        "from dramatiq.default_broker import choose_broker; choose_broker()"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DRAMATIQ_BROKER_URL": "redis://localhost"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "RedisBroker needs an extra" in done.stderr
    assert "pip install 'dramatiq[redis]'" in done.stderr

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys

import pytest

from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.default_broker import choose_broker


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hide(monkeypatch):
    """Hides packages from whoever asks whether they are installed."""
    find_spec = importlib.util.find_spec

    def hide(*hidden):
        monkeypatch.setattr(
            "dramatiq.default_broker.importlib.util.find_spec",
            lambda name: None if name in hidden else find_spec(name),
        )

    return hide


@pytest.fixture
def without_clients(hide):
    hide("pika", "redis")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("stub://", StubBroker),
        ("sqlite:///queue.db", SQLiteBroker),
        ("redis://127.0.0.1:1/0", RedisBroker),
        ("rediss://127.0.0.1:1/0", RedisBroker),
        ("unix:///nowhere.sock", RedisBroker),
        ("amqp://127.0.0.1:1/%2F", RabbitmqBroker),
        ("amqps://127.0.0.1:1;amqps://127.0.0.1:2", RabbitmqBroker),
    ],
)
def test_the_environment_decides(monkeypatch, url, expected):
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", url)

    assert type(choose_broker()) is expected


def test_a_scheme_that_no_broker_serves_is_refused_with_those_that_are(monkeypatch):
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", "kafka://localhost")

    with pytest.raises(ValueError, match=r"'kafka'.*Known: .*sqlite://.*redis://"):
        choose_broker()


def test_rabbitmq_is_used_where_its_package_is_installed_as_in_2x(caplog):
    caplog.set_level(logging.INFO)

    broker = choose_broker()

    assert isinstance(broker, RabbitmqBroker)
    parameters = broker.parameters
    assert (parameters.host, parameters.port, parameters.heartbeat) == ("127.0.0.1", 5672, 5)
    assert (parameters.connection_attempts, parameters.blocked_connection_timeout) == (5, 30)
    assert "because the package 'pika' is installed" in caplog.text
    assert "127.0.0.1:5672" in caplog.text


def test_redis_is_used_where_its_package_is_installed_and_pika_is_not(hide, caplog):
    caplog.set_level(logging.INFO)
    hide("pika")

    assert isinstance(choose_broker(), RedisBroker)
    assert "because the package 'redis' is installed" in caplog.text
    assert "localhost:6379" in caplog.text


def test_the_embedded_broker_is_used_where_nothing_else_is_there(without_clients, caplog):
    caplog.set_level(logging.INFO)

    assert isinstance(choose_broker(), SQLiteBroker)
    assert "embedded SQLite broker" in caplog.text


def test_a_broker_that_was_chosen_says_why(monkeypatch, without_clients):
    assert "no client library" in choose_broker().chosen_because

    monkeypatch.setenv("DRAMATIQ_BROKER_URL", "stub://")
    assert choose_broker().chosen_because == "DRAMATIQ_BROKER_URL is set"
    assert StubBroker().chosen_because is None


@pytest.mark.parametrize(
    ("library", "url", "name"),
    [
        ("redis", "redis://localhost", "RedisBroker"),
        ("pika", "amqp://localhost", "RabbitmqBroker"),
    ],
)
def test_a_broker_whose_client_library_is_missing_says_what_to_install(library, url, name):
    code = (
        f"import sys; sys.modules[{library!r}] = None; "
        "from dramatiq.default_broker import choose_broker; choose_broker()"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DRAMATIQ_BROKER_URL": url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert f"{name} needs an extra" in done.stderr
    assert f"pip install 'dramatiq[{name.removesuffix('Broker').lower()}]'" in done.stderr

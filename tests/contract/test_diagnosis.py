"""What brokers tell about their stores, asked of real ones."""

from __future__ import annotations

import pytest

from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.inspection import Level
from tests.servers import RedisServer, free_port


def texts(findings, level):
    return [each.text for each in findings if each.level is level]


@pytest.fixture
def sqlite_broker(tmp_path):
    broker = SQLiteBroker(tmp_path / "queue.db")
    yield broker
    broker.close()


def test_an_sqlite_file_tells_version_place_and_space(sqlite_broker):
    findings = sqlite_broker.inspection.diagnose()

    assert texts(findings, Level.PROBLEM) == []
    told = "\n".join(each.text for each in findings)
    assert "journal mode wal" in told
    assert f"{sqlite_broker.path} is " in told
    assert " free on the disk, the database has " in told


def test_an_sqlite_file_that_may_lose_messages_says_so(tmp_path):
    broker = SQLiteBroker(tmp_path / "queue.db", synchronous="NORMAL")

    findings = broker.inspection.diagnose()
    broker.close()

    assert any("synchronous is NORMAL" in text for text in texts(findings, Level.NOTE))


def test_an_sqlite_file_that_cannot_be_used_is_a_connection_error(tmp_path):
    broker = SQLiteBroker(tmp_path / "missing" / "queue.db")

    with pytest.raises(BrokerConnectionError):
        broker.inspection.diagnose()
    broker.close()


def test_a_redis_server_tells_version_memory_and_clock(redis_server):
    broker = RedisBroker(url=redis_server.url)

    findings = broker.inspection.diagnose()
    broker.close()

    assert texts(findings, Level.PROBLEM) == []
    fine = texts(findings, Level.OK)
    assert any(text.startswith("Redis ") for text in fine)
    assert "maxmemory-policy is noeviction" in fine
    assert "The clocks of server and machine agree" in fine


@pytest.fixture
def own_server(tmp_path):
    """A server that the test may change."""
    server = RedisServer(tmp_path, appendonly="no").start()
    yield server
    server.kill()


def test_a_redis_server_that_may_drop_messages_is_a_problem(own_server):
    broker = RedisBroker(url=own_server.url)
    broker.client.config_set("maxmemory-policy", "allkeys-lru")

    findings = broker.inspection.diagnose()
    broker.close()

    (problem,) = texts(findings, Level.PROBLEM)
    assert "maxmemory-policy is allkeys-lru" in problem


def test_a_redis_server_that_is_away_is_a_connection_error():
    broker = RedisBroker(url=f"redis://127.0.0.1:{free_port()}/0")

    with pytest.raises(BrokerConnectionError):
        broker.inspection.diagnose()
    broker.close()

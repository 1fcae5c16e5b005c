from __future__ import annotations

import pytest

from dramatiq.brokers.redis import RedisBroker
from dramatiq.postgres import open_database as open_schema
from dramatiq.sqlite import open_database
from dramatiq.testing.workflow_store_contract import WorkflowStoreContract
from dramatiq.workflows.stores.memory import MemoryStore
from dramatiq.workflows.stores.postgres import PostgresStore
from dramatiq.workflows.stores.redis import RedisStore
from dramatiq.workflows.stores.sqlite import SQLiteStore


class TestMemoryStore(WorkflowStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestSQLiteStore(WorkflowStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        database = open_database(tmp_path / "flows.db")
        yield SQLiteStore(database)
        database.close()


class TestRedisStore(WorkflowStoreContract):
    @pytest.fixture
    def store(self, redis):
        return RedisStore(redis, "{flows}")


class TestRedisBrokerStore(WorkflowStoreContract):
    """The script that stores messages too is another one."""

    @pytest.fixture
    def store(self, redis_server, redis):
        broker = RedisBroker(url=redis_server.url)
        yield broker.make_workflow_store()
        broker.close()
        broker.client.close()


class TestPostgresStore(WorkflowStoreContract):
    @pytest.fixture
    def store(self, postgres_server, postgres):
        database = open_schema(postgres_server.url)
        yield PostgresStore(database)
        database.close()

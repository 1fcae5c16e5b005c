from __future__ import annotations

import pytest

from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.results import Results
from dramatiq.results.backends import SQLiteBackend
from dramatiq.testing.workflow_contract import WorkflowContract
from tests.rabbitmq import QuickBroker, delete_queues


class TestOnStubBroker(WorkflowContract):
    @pytest.fixture
    def broker(self):
        return StubBroker(fail_fast_default=False)


class TestOnSQLiteBroker(WorkflowContract):
    @pytest.fixture
    def broker(self, tmp_path):
        broker = SQLiteBroker(tmp_path / "dramatiq.db")
        yield broker
        broker.close()


class TestOnRedisBroker(WorkflowContract):
    @pytest.fixture
    def broker(self, redis_server, redis):
        broker = RedisBroker(url=redis_server.url)
        yield broker
        broker.close()
        broker.client.close()


class TestOnPostgresBroker(WorkflowContract):
    @pytest.fixture
    def broker(self, postgres_server, postgres):
        broker = PostgresBroker(postgres_server.url)
        yield broker
        broker.close()


class TestOnRabbitmqBroker(WorkflowContract):
    """A broker without a store of its own, with results in a file."""

    @pytest.fixture
    def broker(self, rabbitmq_server, tmp_path):
        broker = QuickBroker(url=rabbitmq_server.url)
        backend = SQLiteBackend(path=tmp_path / "results.db")
        broker.add_middleware(Results(backend=backend))
        yield broker
        delete_queues(broker)
        broker.close()
        backend.database.close()

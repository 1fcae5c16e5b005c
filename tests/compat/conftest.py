from __future__ import annotations

import contextlib

import pytest

import dramatiq.broker
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker

#: Milliseconds a worker of these tests waits for messages before it looks around.
WORKER_TIMEOUT = 100


@pytest.fixture
def stub_broker(monkeypatch):
    """The process-wide broker: a fresh one in memory that emits no process boot by itself."""
    broker = StubBroker()
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    yield broker
    broker.flush_all()
    broker.close()


@pytest.fixture
def running():
    """Run a worker of a broker for the length of a with statement."""

    @contextlib.contextmanager
    def running(broker, **options):
        worker = Worker(
            broker, **{"worker_timeout": WORKER_TIMEOUT, "worker_threads": 2, **options}
        )
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()

    return running

from __future__ import annotations

import pytest

import dramatiq.broker
from dramatiq.brokers.stub import StubBroker


@pytest.fixture
def stub_broker(monkeypatch):
    """The process-wide broker: a fresh one in memory."""
    broker = StubBroker()
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    yield broker
    broker.flush_all()
    broker.close()

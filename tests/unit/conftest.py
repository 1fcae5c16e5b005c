from __future__ import annotations

import sys

import pytest

import dramatiq.broker
from dramatiq.brokers.stub import StubBroker
from dramatiq.cli.commands.dispatch import run_command
from tests.unit.memory_inspection import InspectedBroker


@pytest.fixture
def stub_broker(monkeypatch):
    """The process-wide broker: a fresh one in memory."""
    broker = StubBroker()
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    yield broker
    broker.flush_all()
    broker.close()


@pytest.fixture
def inspected_broker(monkeypatch):
    """The process-wide broker, with the inspection of `memory_inspection`."""
    broker = InspectedBroker()
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    yield broker
    broker.close()


@pytest.fixture
def command(inspected_broker, capsys, monkeypatch, tmp_path):
    """Run a command as `dramatiq NAME …` would, and return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*argv):
        try:
            code = run_command(argv)
        except SystemExit as error:  # wrong usage
            code = error.code
        return code, *capsys.readouterr()

    return run

"""What holds for every test: a clean environment, a deadline, and no failure that nobody saw.

Warnings are errors (see `pyproject.toml`). Among them are exceptions that ended a thread, that
were raised in a finalizer, and resources that were never closed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

import dramatiq.broker
import dramatiq.message
from tests.parallel import SEED_VARIABLE, agree_on_a_seed, make_scheduler, place_of, writable
from tests.servers import MemcachedServer, PostgresServer, RabbitmqServer, RedisServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

#: Seconds a test may take in each directory; elsewhere the default of `pyproject.toml` holds.
#: A test that needs more says so itself with `pytest.mark.timeout`.
TIMEOUTS_S = {"unit": 20, "acceptance": 120, "typing": 120, "chaos": 180, "interop": 120}

#: A loaded machine makes single examples slow; the whole test still has its deadline.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.load_profile("default")

#: Before any test module is imported, and before pytest-xdist starts its processes.
CHAOS_SEED = agree_on_a_seed()


def pytest_report_header() -> str:
    """Tell with which seed the random tests of this run can be repeated."""
    return f"chaos seed: {SEED_VARIABLE}={CHAOS_SEED}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share out the tests as `tests/parallel.py` tells."""
    return make_scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test the deadline of its directory, and its place if there are processes."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(item.nodeid))
    tests = Path(__file__).parent
    for item in items:
        if not item.path.is_relative_to(tests) or item.get_closest_marker("timeout"):
            continue
        timeout_s = TIMEOUTS_S.get(item.path.relative_to(tests).parts[0])
        if timeout_s is not None:
            item.add_marker(pytest.mark.timeout(timeout_s))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Make reports fit to be sent to the process that shows them."""
    return writable((yield))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests; child processes inherit this too."""
    for name in list(os.environ):
        if name.lower().startswith("dramatiq_"):
            monkeypatch.delenv(name)
    # The size of a terminal: readline exports that of ours to the processes of pytest-xdist.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)


@pytest.fixture(autouse=True)
def _no_traces_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the global broker and encoder back, whatever the test sets them to."""
    monkeypatch.setattr(dramatiq.broker, "global_broker", dramatiq.broker.global_broker)
    monkeypatch.setattr(dramatiq.message, "global_encoder", dramatiq.message.global_encoder)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server for all tests that do not harm it; each uses keys or a database its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def memcached_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemcachedServer]:
    """One memcached server for all tests that do not harm it."""
    server = MemcachedServer(tmp_path_factory.mktemp("memcached")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitmqServer]:
    """One RabbitMQ node for all tests that do not harm it; it takes seconds to start."""
    server = RabbitmqServer(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests that do not harm it; each has a schema of its own."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    try:
        yield server.start()
    finally:
        server.close()

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

#: Prints which brokers the main process would have imported for its children.
CODE = """
import argparse, sys
sys.path.insert(0, ".")
from dramatiq.cli.preload import preload
preload(argparse.Namespace(broker={broker!r}))
names = ("dramatiq.brokers.redis", "dramatiq.brokers.sqlite", "dramatiq.worker.loop", "app")
print([name for name in names if name in sys.modules])
"""


@pytest.fixture
def preloaded(tmp_path, monkeypatch):
    """Return what is imported for an application with this source."""

    def preloaded(source, *, broker="app", name="app.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        done = subprocess.run(
            [sys.executable, "-P", "-c", CODE.format(broker=broker)],
            cwd=tmp_path,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=20,
        )
        return done.stdout.strip()

    return preloaded


REDIS = "['dramatiq.brokers.redis', 'dramatiq.worker.loop']"
SQLITE = "['dramatiq.brokers.sqlite']"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("broker = RedisBroker()", REDIS),
        ("broker = SQLiteBroker()", SQLITE),
        (
            "broker = SQLiteBroker()\nasync def work(): ...",
            SQLITE[:-1] + ", 'dramatiq.worker.loop']",
        ),
        ("nothing that says which", REDIS),
    ],
)
def test_what_the_application_mentions_is_imported_for_it_and_nothing_of_it(
    preloaded, source, expected
):
    assert preloaded(source) == expected


def test_a_module_in_a_package_is_read_without_importing_the_package(preloaded):
    assert preloaded("SQLiteBroker()", broker="app.queue:broker", name="app/queue.py") == SQLITE


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", REDIS),
        ("rediss://localhost", REDIS),
        ("sqlite:///x.db", SQLITE),
        ("stub://", "[]"),
    ],
)
def test_the_url_of_the_environment_says_which(preloaded, monkeypatch, url, expected):
    monkeypatch.setenv("DRAMATIQ_BROKER_URL", url)

    assert preloaded("RedisBroker") == expected


def test_a_module_of_the_application_is_not_taken_for_a_client_library(preloaded, tmp_path):
    (tmp_path / "redis.py").write_text("raise SystemExit('imported')")

    assert preloaded("RedisBroker") == "[]"


def test_what_cannot_be_read_or_imported_is_left_to_the_worker(preloaded, tmp_path):
    (tmp_path / "app").mkdir()

    assert preloaded("", broker="app.not.there:broker", name="other.py") == REDIS

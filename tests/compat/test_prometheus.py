"""The metrics of 2.x: their names, types, labels and buckets, and how they are served."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dramatiq.middleware import default_middleware
from dramatiq.middleware.prometheus import Prometheus
from tests.servers import free_port

TYPES = {
    "dramatiq_messages_total": "counter",
    "dramatiq_message_errors_total": "counter",
    "dramatiq_message_retries_total": "counter",
    "dramatiq_message_rejects_total": "counter",
    "dramatiq_messages_inprogress": "gauge",
    "dramatiq_delayed_messages_inprogress": "gauge",
    "dramatiq_message_duration_milliseconds": "histogram",
}
BUCKETS = [
    *("5.0", "10.0", "25.0", "50.0", "75.0", "100.0", "250.0", "500.0", "750.0", "1000.0"),
    *("2500.0", "5000.0", "7500.0", "10000.0", "30000.0", "60000.0", "600000.0", "900000.0"),
    "+Inf",
]


def run(code, **environment):
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=15,
    )
    return done.stdout


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """What one actor's messages look like to Prometheus before the first of them has run."""
    code = """if True:
        import prometheus_client
        from dramatiq.brokers.stub import StubBroker
        from dramatiq.middleware.prometheus import Prometheus
        from dramatiq.middleware.prometheus.exposition import FileFigures

        middleware = Prometheus()
        middleware.after_process_boot(StubBroker())
        middleware._metrics.series("default", "work")
        registry = prometheus_client.CollectorRegistry()
        registry.register(FileFigures(middleware._store))
        print(prometheus_client.generate_latest(registry).decode())
        """
    return run(code, dramatiq_prom_db=str(tmp_path_factory.mktemp("metrics")))


@pytest.mark.parametrize("name", TYPES)
def test_metrics_have_the_names_types_and_labels_of_2x(text, name):
    suffix = "_count" if TYPES[name] == "histogram" else ""

    assert f"# TYPE {name} {TYPES[name]}\n" in text
    assert f'\n{name}{suffix}{{actor_name="work",queue_name="default"}} 0.0\n' in text


def test_durations_have_the_buckets_of_2x(text):
    prefix = 'dramatiq_message_duration_milliseconds_bucket{actor_name="work",le="'
    lines = [line for line in text.splitlines() if line.startswith(prefix)]

    assert BUCKETS == [line.removeprefix(prefix).partition('"')[0] for line in lines]


def test_it_is_no_default_and_takes_no_arguments():
    assert Prometheus not in default_middleware
    assert Prometheus().actor_options == set()


def test_its_one_fork_is_known_by_the_name_it_has_in_2x():
    [fork] = Prometheus().forks

    assert (fork.__module__, fork.__name__) == (
        "dramatiq.middleware.prometheus",
        "_run_exposition_server",
    )


def test_it_is_imported_and_made_without_the_client_library_and_makes_the_folder(tmp_path):
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from dramatiq.middleware.prometheus import Prometheus; Prometheus().forks\n"
    )

    run(code, dramatiq_prom_db=str(tmp_path / "new" / "folder"))

    assert (tmp_path / "new" / "folder").is_dir()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ["0.0.0.0", "9191", "dramatiq-prometheus"]),  # noqa: S104 (as 2.x has it)
        (
            {"dramatiq_prom_host": "::1", "dramatiq_prom_port": "80", "dramatiq_prom_db": "here"},
            ["::1", "80", "here"],
        ),
    ],
)
def test_the_environment_is_read_at_import(tmp_path, environment, expected):
    code = (
        "from dramatiq.middleware.prometheus import settings as s\n"
        "print(s.HTTP_HOST, s.HTTP_PORT, s.DB_PATH.name)\n"
    )

    here = {"TMPDIR": str(tmp_path), **environment}
    if "dramatiq_prom_db" in here:
        here["dramatiq_prom_db"] = str(tmp_path / here["dramatiq_prom_db"])
    assert expected == run(code, **here).split()


def test_a_process_boot_says_where_the_figures_are_and_the_server_runs_in_a_thread_too(tmp_path):
    port = free_port()
    code = f"""if True:
        import os, threading, urllib.request
        from dramatiq.brokers.stub import StubBroker
        from dramatiq.middleware.prometheus import Prometheus, _run_exposition_server

        broker = StubBroker()
        broker.add_middleware(Prometheus())
        broker.emit_after("process_boot")
        threading.Thread(target=_run_exposition_server, daemon=True).start()
        while True:
            try:
                answer = urllib.request.urlopen("http://127.0.0.1:{port}/any/path", timeout=5)
                break
            except OSError:
                pass
        print(answer.status, answer.headers.get_content_type())
        print(os.environ["PROMETHEUS_MULTIPROC_DIR"], os.environ["prometheus_multiproc_dir"])
        """

    printed = run(code, dramatiq_prom_port=str(port), dramatiq_prom_db=str(tmp_path))

    assert printed.split() == ["200", "text/plain", str(tmp_path), str(tmp_path)]

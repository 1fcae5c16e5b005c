"""The metrics of real processes, asked over HTTP, by hand and by a real Prometheus."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import PrometheusServer, RedisServer, find_program, free_port

from .conftest import eventually

APPLICATION = """\
import asyncio, os, time
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.prometheus import Prometheus

broker = RedisBroker(url=os.environ["REDIS"], namespace=os.getcwd())
broker.add_middleware(Prometheus())
dramatiq.set_broker(broker)


@dramatiq.actor
def quick():
    pass


@dramatiq.actor
def hold():
    while not os.path.exists("go"):
        time.sleep(0.01)


@dramatiq.actor(queue_name="naps")
async def nap():
    await asyncio.sleep(0.01)


@dramatiq.actor(max_retries=1, min_backoff=10, max_backoff=10)
def fail():
    raise KeyError("meant")
"""
DASHBOARD = json.loads(Path("grafana/dramatiq.json").read_text())
#: What promtool holds against names that are those of 2.x.
NAMES_OF_2X = [
    'dramatiq_message_duration_milliseconds use base unit "seconds" instead of "milliseconds"',
]


class Metered:
    """Programs with metrics, one at a time, in a folder with an application."""

    def __init__(self, directory, run, redis):
        self.directory = directory
        self.port = free_port()
        self.environment = {
            "REDIS": redis.url,
            "dramatiq_prom_host": "127.0.0.1",
            "dramatiq_prom_port": str(self.port),
            "dramatiq_prom_db": str(directory / "metrics"),
        }
        self._run = run

    def start(self, processes=1, **environment):
        environment = {**self.environment, **environment}
        arguments = ("app", "-p", str(processes), "-t", "2")
        return self._run(*arguments, environment=environment).wait_until_ready(processes)

    def send(self, **counts):
        code = f"""if True:
            import app
            for name, count in {counts}.items():
                app.broker.actors[name].send_many([()] * count)
            app.broker.close()
            """
        environment = {**os.environ, **self.environment}
        subprocess.run(
            [sys.executable, "-c", code], cwd=self.directory, env=environment, check=True
        )

    def get(self, path="/metrics"):
        """Return status and text; neither while nobody answers."""
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return None, ""

    def sum(self, name, **labels):
        """Return the sum of all series of that name; None if there is none."""
        values = [
            sample.value
            for metric in text_string_to_metric_families(self.get()[1])
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None

    def wait_for(self, value, name, **labels):
        what = f"{name}{labels} == {value}"
        eventually(lambda: self.sum(name, **labels) == value, what)

    def files(self, pid):
        return [path.name for path in (self.directory / "metrics").glob(f"*-{pid}x*")]


@pytest.fixture
def metered(tmp_path, write_module, run, redis_server):
    write_module("app", APPLICATION, preamble="")
    return Metered(tmp_path, run, redis_server)


def test_gauges_return_to_zero_after_a_kill_and_counters_do_not(metered):
    program = metered.start(processes=3)
    metered.send(quick=5)
    metered.wait_for(5, "dramatiq_messages_total")
    metered.send(hold=20)
    metered.wait_for(6, "dramatiq_messages_inprogress", actor_name="hold")
    metered.wait_for(6, "dramatiq_worker_busy_threads")
    killed = program.worker_pids()[0]

    os.kill(killed, signal.SIGKILL)
    program.wait_until_ready(4)
    (metered.directory / "go").touch()

    metered.wait_for(25, "dramatiq_messages_total")
    metered.wait_for(0, "dramatiq_messages_inprogress")
    metered.wait_for(0, "dramatiq_worker_busy_threads")
    assert metered.sum("dramatiq_worker_processes") == 3
    assert metered.sum("dramatiq_messages_total", actor_name="quick") == 5
    assert not any(name.startswith("gauge") for name in metered.files(killed))

    program.send(signal.SIGHUP).wait_until_ready(7)
    metered.wait_for(3, "dramatiq_worker_processes")
    assert metered.sum("dramatiq_messages_total") == 25

    program.stop()
    metered.start()
    metered.wait_for(1, "dramatiq_worker_processes")
    assert metered.sum("dramatiq_messages_total") is None
    assert len(list((metered.directory / "metrics").glob("program_*"))) == 1


def test_a_port_that_is_taken_is_told_once_and_waited_for(metered):
    with closing(socket.create_server(("127.0.0.1", metered.port))):
        program = metered.start().wait_for("Cannot serve metrics on 127.0.0.1, port")
        metered.send(quick=1)

    metered.wait_for(1, "dramatiq_messages_total")
    assert program.output.count("Cannot serve metrics") == 1
    assert program.output.count("_run_exposition_server' is ready") == 1


def test_without_the_client_library_messages_are_run(metered):
    (metered.directory / "prometheus_client.py").write_text("raise ImportError('not there')")

    program = metered.start().wait_for("Cannot serve metrics: not there.")
    (metered.directory / "go").touch()
    metered.send(hold=1)

    assert "No metrics: not there. Install what they need" in program.output
    assert program.stop() == 0
    assert program.output.count("Cannot serve metrics") == 1


def test_health_follows_whether_the_queues_are_fetched_from(tmp_path, metered):
    redis = RedisServer(tmp_path / "redis").start()
    try:
        metered.start(REDIS=redis.url, dramatiq_prom_patience="500", dramatiq_restart_delay="100")
        eventually(lambda: metered.get("/healthz")[0] == 200, "health")

        redis.kill()
        eventually(lambda: metered.get("/healthz")[0] == 503, "illness")
        eventually(
            lambda: "Queue 'default' stands still: process" in metered.get("/healthz")[1],
            "the name of the queue",
        )
        eventually(lambda: metered.sum("dramatiq_broker_up") == 0, "a broker that is not there")

        redis.start()
        eventually(lambda: metered.get("/healthz")[0] == 200, "recovery")
    finally:
        redis.kill()


def test_a_stopped_process_does_not_look_healthy(metered):
    program = metered.start(processes=2, dramatiq_prom_patience="500")
    stopped, _ = program.worker_pids()
    eventually(lambda: metered.get("/healthz")[0] == 200, "health")

    os.kill(stopped, signal.SIGSTOP)

    eventually(lambda: metered.get("/healthz")[0] == 503, "illness")
    assert f"process {stopped} has not asked" in metered.get("/healthz")[1]


def test_every_panel_of_the_dashboard_shows_something(tmp_path, metered):
    metered.start()
    prometheus = PrometheusServer(tmp_path / "prometheus", metered.port)
    (metered.directory / "go").touch()
    metered.send(quick=1, hold=1, nap=1, fail=1)
    metered.wait_for(5, "dramatiq_messages_total")
    metered.wait_for(1, "dramatiq_message_rejects_total")
    prometheus.start()
    try:
        eventually(lambda: prometheus.ask("dramatiq_messages_total"), "a first scrape")
        metered.send(quick=2, hold=1, nap=1, fail=1)
        metered.wait_for(1, "dramatiq_queue_messages", state="dead")
        missing = expressions()

        def all_answer():
            missing[:] = [each for each in missing if not shows(prometheus, each)]
            return not missing

        eventually(all_answer, f"an answer to {missing}", 30)
    finally:
        prometheus.kill()


def expressions():
    """Return what the panels ask, as Grafana would: for all queues."""
    return [
        target["expr"].replace("$queue", ".*").replace("$__rate_interval", "20s")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


def shows(prometheus, expression):
    return any(series["value"][1] != "NaN" for series in prometheus.ask(expression))


def test_the_dashboard_has_the_shape_that_grafana_imports():
    panels = DASHBOARD["panels"]

    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["id"] is None
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {"datasource", "queue"} == {each["name"] for each in DASHBOARD["templating"]["list"]}
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    cells = [cell for panel in panels for cell in cells_of(panel["gridPos"])]
    assert len(cells) == len(set(cells))


def cells_of(place):
    columns = range(place["x"], place["x"] + place["w"])
    return [(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])]


def test_what_is_exposed_is_what_the_docs_list_and_promtool_finds_no_fault(metered):
    metered.start()
    metered.send(fail=1)
    metered.wait_for(1, "dramatiq_message_rejects_total")
    metered.wait_for(1, "dramatiq_broker_up")
    _, text = metered.get()

    exposed = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    page = Path("docs/metrics.md").read_text()
    assert exposed == set(re.findall(r"^\| `(dramatiq_\w+)` \| [cgh]", page, re.MULTILINE))
    asked = " ".join(expressions())
    assert exposed == set(re.findall(r"dramatiq_\w+?(?=_bucket|\W)", asked))

    checked = subprocess.run(
        [find_program("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert NAMES_OF_2X == (checked.stdout + checked.stderr).splitlines()

"""A broker that cannot be reached: what is said about it, and when a worker calls itself ready."""

from __future__ import annotations

import pytest

from tests.servers import RedisServer, free_port

APP = """
    @dramatiq.actor
    def add():
        print("ran")

    @dramatiq.actor(queue_name="mail")
    def mail():
        add.send()
        print("mailed")

    if os.environ.get("SEND"):
        mail.send()
"""


@pytest.fixture
def server(tmp_path):
    server = RedisServer(tmp_path / "redis", free_port())
    yield server
    server.kill()


def test_a_worker_says_once_that_its_broker_is_away_and_is_ready_when_it_is_there(
    write_module, run, server
):
    write_module("app", APP, preamble="import os\nimport dramatiq\n")
    environment = {"DRAMATIQ_BROKER_URL": server.url, "dramatiq_restart_delay": "100"}

    program = run("app", "-p", "1", "-t", "1", environment=environment)
    program.wait_for("Consumer encountered a connection error: Cannot connect to Redis at")
    assert "is ready" not in program.output
    assert "Does it run?" in program.output
    server.start()

    program.wait_until_ready().wait_for("The broker is back after")
    assert program.output.count("Consumer encountered a connection error") == 1
    assert program.stop() == 0


def test_an_outage_while_working_is_two_lines(write_module, run, server):
    write_module("app", APP, preamble="import os\nimport dramatiq\n")
    environment = {"DRAMATIQ_BROKER_URL": server.url, "dramatiq_restart_delay": "100"}
    server.start()
    program = run("app", "-p", "1", "-t", "1", environment=environment).wait_until_ready()

    server.kill()
    program.wait_for("Trying again every 0.1 seconds")
    server.start()
    program.wait_for("The broker is back after")

    run("app", "--burst", "-p", "1", environment={**environment, "SEND": "1"}).wait()
    assert program.output.count("The broker is back after") == 1
    assert program.stop() == 0

from __future__ import annotations

import json

import pytest

import dramatiq
from dramatiq.brokers.redis.diagnosis import judge
from dramatiq.cli.commands.checks import (
    check_actors,
    check_queues,
    check_settings,
    check_time_limits,
    check_workers,
)
from dramatiq.errors import ConnectionFailed
from dramatiq.inspection import Finding, Level, QueueCounts, QueueInfo, State, WorkerInfo
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

#: What a server says that is as it should be.
HEALTHY = {
    "redis_version": "7.0.15",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "maxmemory": "0",
    "used_memory": "1000000",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "save": "3600 1",
}


@pytest.fixture
def store(inspected_broker):
    return inspected_broker.double


@pytest.fixture
def mail(inspected_broker):
    @dramatiq.actor(queue_name="mail")
    def mail(recipient):
        pass

    return mail


def test_a_healthy_application_is_told_in_full(command, store, mail):
    store.registered = [WorkerInfo("one", "host", 17)]
    store.findings = [Finding(Level.OK, "the disk turns")]
    store.add(mail.message("ann"))

    code, output, _ = command("doctor")

    assert code == 0
    for text in (
        f"dramatiq {dramatiq.__version__}, ",
        "InspectedBroker",
        "answers in ",
        "mail       1        0       0     0  mail",
        "mail(recipient)",
        "one     host   17",
        "ok       the disk turns",
        "No problems.",
    ):
        assert text in output


def test_problems_are_told_first_and_by_the_exit_code(command, store):
    store.findings = [Finding(Level.OK, "fine"), Finding(Level.PROBLEM, "the disk is on fire")]

    code, output, _ = command("doctor")

    assert code == 1
    assert output.index("on fire") < output.index("fine\n")
    assert "1 problem." in output


def test_the_report_is_there_for_programs(command, store, mail):
    store.add(mail.message("ann"), State.DEAD)

    code, output, _ = command("doctor", "--json")

    report = json.loads(output)
    assert report["exit_code"] == code == 0
    assert report["environment"]["dramatiq"] == dramatiq.__version__
    assert report["broker"]["ping_ms"] >= 0
    assert report["queues"][0]["dead"] == 1
    assert report["actors"][0]["signature"] == "(recipient)"
    assert {"level": "note", "text": report["findings"][0]["text"]} == report["findings"][0]


def test_a_broker_that_cannot_be_reached_is_part_of_the_report(command, store, mail):
    store.error = ConnectionFailed("Cannot connect to redis://me:secret@host.")

    code, output, _ = command("doctor")

    assert code == 4
    assert "cannot be reached: Cannot connect to redis://me:***@host." in output
    assert "mail(recipient)" in output
    assert "1 problem." in output


def test_the_choice_of_the_broker_is_explained(command, inspected_broker):
    inspected_broker.chosen_because = "DRAMATIQ_BROKER_URL is set"

    _, output, _ = command("doctor")

    assert "chosen because DRAMATIQ_BROKER_URL is set" in output


def texts(findings, level=None):
    return [each.text for each in findings if level in {None, each.level}]


def test_messages_that_no_actor_serves_are_a_problem():
    queues = [QueueInfo("old", QueueCounts(delayed=2)), QueueInfo("mail", QueueCounts(ready=1))]

    (text,) = texts(check_queues(queues, ["mail"], has_actors=True))
    assert "'old' holds 2 messages, and no actor here uses it" in text

    assert not list(check_queues(queues, [], has_actors=False))


def test_paused_queues_and_dead_letters_are_worth_a_note():
    queue = QueueInfo("mail", QueueCounts(dead=3), is_paused=True)

    paused, dead = check_queues([queue], ["mail"], has_actors=True)

    assert paused == Finding(Level.NOTE, "Queue 'mail' is paused: dramatiq resume mail")
    assert "dramatiq messages --state dead --queue mail" in dead.text
    assert dead.level is Level.NOTE


def test_work_without_workers_is_a_problem():
    queues = [QueueInfo("mail", QueueCounts(ready=1))]
    dead = WorkerInfo("gone", "host", 17, is_alive=False, leased=2)

    problem, note = check_workers([dead], queues)

    assert problem.level is Level.PROBLEM
    assert "1 message ready to run, and no worker is alive" in problem.text
    assert "gone is dead and still registered, holding 2 messages" in note.text


def test_workers_that_do_not_say_where_they_are_may_be_foreign():
    (note,) = check_workers([WorkerInfo("foreign")], [])

    assert "it may be one of Dramatiq 2.x" in note.text


def test_results_that_are_asked_for_and_not_kept_are_a_problem(inspected_broker, mail):
    mail.options["store_results"] = True

    (text,) = texts(check_actors([mail], inspected_broker.middleware, has_modules=True))

    assert "'mail' asks for store_results, but the broker has no Results middleware" in text


def test_values_that_are_returned_and_dropped_are_worth_a_note(inspected_broker):
    inspected_broker.add_middleware(Results(backend=StubBackend()))

    @dramatiq.actor
    def count() -> int:
        return 1

    @dramatiq.actor
    def say() -> None:
        pass

    @dramatiq.actor(store_results=True)
    def keep() -> int:
        return 1

    (text,) = texts(check_actors([count, say, keep], inspected_broker.middleware, has_modules=True))

    assert "'count' returns a value that is not stored" in text


def test_actors_that_outlast_a_stopping_worker_are_worth_a_note(inspected_broker):
    @dramatiq.actor(time_limit=3_600_000)
    def slow():
        pass

    @dramatiq.actor(time_limit=600_000)
    def quick():
        pass

    (text,) = texts(check_time_limits([slow, quick]))

    assert "'slow' may run for 1h, and workers that stop wait for 10m" in text
    assert "--worker-shutdown-timeout 3600000" in text


def test_modules_without_actors_are_a_problem():
    assert texts(check_actors([], [], has_modules=True), Level.PROBLEM)
    assert not texts(check_actors([], [], has_modules=False))


@pytest.mark.parametrize(
    ("value", "level", "text"),
    [
        ("16", Level.NOTE, "is set to 16"),
        ("many", Level.PROBLEM, "must be a whole number"),
        ("0", Level.PROBLEM, "sensible are 1 to 10,000"),
        ("1000000", Level.PROBLEM, "sensible are 1 to 10,000"),
    ],
)
def test_settings_from_the_environment_are_checked(value, level, text):
    (finding,) = check_settings({"dramatiq_queue_prefetch": value, "PATH": "/bin"})

    assert finding.level is level
    assert text in finding.text


def test_a_healthy_redis_server_has_no_problems():
    assert {each.level for each in judge(HEALTHY, 3.0)} == {Level.OK}


@pytest.mark.parametrize(
    ("changes", "skew_ms", "level", "text"),
    [
        ({"redis_version": "6.0.9"}, 0, Level.PROBLEM, "6.0.9 is too old: 6.2 or newer"),
        ({"role": "slave"}, 0, Level.PROBLEM, "is a replica"),
        ({"maxmemory_policy": "allkeys-lru"}, 0, Level.PROBLEM, "Set it to noeviction"),
        ({"maxmemory_policy": ""}, 0, Level.NOTE, "does not tell its maxmemory-policy"),
        ({"maxmemory": "1050000"}, 0, Level.PROBLEM, "95% of the server's memory limit"),
        ({"aof_enabled": "0"}, 0, Level.NOTE, "since the last snapshot is lost"),
        ({"aof_enabled": "0", "save": ""}, 0, Level.NOTE, "its restart loses all messages"),
        ({"aof_last_write_status": "err"}, 0, Level.PROBLEM, "append-only file failed"),
        ({"rdb_last_bgsave_status": "err"}, 0, Level.PROBLEM, "last snapshot failed"),
        ({}, 5_000, Level.PROBLEM, "5.0 s ahead of this machine's"),
        ({}, -90_000, Level.PROBLEM, "90.0 s behind this machine's"),
    ],
)
def test_what_is_wrong_with_a_redis_server_is_told(changes, skew_ms, level, text):
    unusual = [each for each in judge({**HEALTHY, **changes}, skew_ms) if each.level != Level.OK]

    (finding,) = unusual
    assert finding.level is level
    assert text in finding.text


def test_a_server_that_keeps_its_facts_to_itself_is_no_problem():
    assert {each.level for each in judge({}, None)} == {Level.NOTE}

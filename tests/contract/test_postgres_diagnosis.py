"""What the PostgreSQL broker tells about its server."""

from __future__ import annotations

import pytest

from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.brokers.postgres.diagnosis import judge
from dramatiq.inspection import Level

FACTS = {
    "version": "15.18",
    "number": 150_018,
    "is_standby": False,
    "is_pooled": False,
    "fsync": "on",
    "synchronous_commit": "on",
    "autovacuum": "on",
    "max_connections": 100,
    "connections": 7,
    "dead_rows": 12,
    "oldest_transaction_s": 0.0,
}


def texts(findings, level):
    return [each.text for each in findings if each.level is level]


def test_a_server_as_it_should_be_gives_no_cause_for_concern():
    findings = judge(FACTS, 3.0)

    assert {each.level for each in findings} == {Level.OK}
    assert "PostgreSQL 15.18" in texts(findings, Level.OK)


@pytest.mark.parametrize(
    ("facts", "level", "text"),
    [
        ({"number": 120_022, "version": "12.22"}, Level.PROBLEM, "12.22 is too old"),
        ({"is_standby": True}, Level.PROBLEM, "Use the address of the primary"),
        ({"is_pooled": True}, Level.NOTE, "a pooler between us"),
        ({"fsync": "off"}, Level.PROBLEM, "Set it to on"),
        ({"synchronous_commit": "off"}, Level.NOTE, "may be lost"),
        ({"connections": 90}, Level.PROBLEM, "Raise max_connections"),
        ({"autovacuum": "off"}, Level.PROBLEM, "never removed"),
        ({"dead_rows": 2_000_000}, Level.NOTE, "2,000,000 rows wait"),
        ({"oldest_transaction_s": 600.0}, Level.PROBLEM, "open for 600 seconds"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(facts, level, text):
    [found] = [each for each in judge({**FACTS, **facts}, 0.0) if each.level is not Level.OK]

    assert found.level is level
    assert text in found.text


@pytest.mark.parametrize(("skew_ms", "text"), [(5_000, "5.0 s ahead of"), (-5_000, "5.0 s behind")])
def test_clocks_that_differ_are_told(skew_ms, text):
    [problem] = texts(judge(FACTS, skew_ms), Level.PROBLEM)

    assert text in problem


def test_a_real_server_is_asked(postgres_server, postgres):
    broker = PostgresBroker(postgres_server.url)

    told = [each.text for each in broker.inspection.diagnose()]
    broker.close()

    assert any(text.startswith("PostgreSQL 1") for text in told)
    assert "The clocks of server and machine agree" in told

"""Messages that nobody can run: each is put aside with its reason, and its neighbours run."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

import dramatiq
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.worker import Worker

#: Milliseconds after which a queue that is not empty counts as stuck.
JOIN_MS = 20_000

GOOD = (
    b'{"queue_name":"default","actor_name":"work","args":[0],"kwargs":{},"options":{},'
    b'"message_id":"by-hand","message_timestamp":1}'
)


def text(content: bytes) -> str:
    """Return SQL for exactly these bytes as text, which they need not be."""
    return f"CAST(x'{content.hex()}' AS TEXT)"


def blob(content: bytes) -> str:
    return f"x'{content.hex()}'"


#: What somebody may have written into the table, as SQL.
BAD = {
    "noise": blob(b"\xff\xfe\x00\x1e\x80"),
    "text that is not UTF-8": text(b'{"\xff": 1}'),
    "text with a zero": text(b'{"a\x00b": 1}'),
    "text with a separator": text(b'{"a\x1eb": 1}'),
    "text that looks like a blob": "'xyz'",
    "nothing": "''",
    "no text": "42",
    "no whole number": "0.5",
    "no JSON": "'{'",
    "another JSON": "'[1, 2]'",
    "null": "'null'",
    "a field is missing": text(GOOD.replace(b'"kwargs":{},', b"")),
    "a field too many": text(GOOD.replace(b'"kwargs"', b'"more":1,"kwargs"')),
    "arguments are no list": text(GOOD.replace(b"[0]", b"null")),
    "options are null": text(GOOD.replace(b'"options":{}', b'"options":null')),
    "options are a list": text(GOOD.replace(b'"options":{}', b'"options":[1]')),
    "named arguments are a list": text(GOOD.replace(b'"kwargs":{}', b'"kwargs":[]')),
    "the actor is a list": text(GOOD.replace(b'"work"', b'["work"]')),
    "the queue is null": text(GOOD.replace(b'"default"', b"null")),
    "the message id is a number": text(GOOD.replace(b'"by-hand"', b"7")),
    "nested without end": blob(b"[" * 100_000),
    "a number of a million digits": blob(GOOD.replace(b"[0]", b"[" + b"9" * 1_000_000 + b"]")),
}


@pytest.fixture
def broker(tmp_path):
    broker = SQLiteBroker(tmp_path / "queue.db")
    dramatiq.set_broker(broker)
    yield broker
    broker.close()


@pytest.fixture
def ran(broker):
    """Declare the actor ``work``, and return what it was called with."""
    ran = []

    @dramatiq.actor(broker=broker)
    def work(number):
        ran.append(number)

    return ran


@pytest.fixture
def run(broker):
    """Work until nothing is left to run."""

    def run():
        worker = Worker(broker, worker_timeout=100, worker_threads=2)
        worker.start()
        try:
            broker.join("default", timeout=JOIN_MS)
        finally:
            worker.stop()

    return run


def write_row(broker, sql, number=0):
    broker.queue_counts("default")  # the table is made at the first use
    with closing(sqlite3.connect(broker.path)) as connection, connection:
        connection.execute(
            "INSERT INTO messages (did, queue, state, prio, position, payload) "  # noqa: S608 (ours)
            f"VALUES (?, 'default', 0, 0, 0, {sql})",
            (f"by hand {number}".encode(),),
        )


def payload_of(broker, sql):
    with closing(sqlite3.connect(broker.path)) as connection:
        return connection.execute(f"SELECT CAST({sql} AS BLOB)").fetchone()[0]


@pytest.mark.parametrize("sql", BAD.values(), ids=BAD.keys())
def test_a_bad_row_goes_to_the_dead_letters_as_it_is_and_its_neighbours_run(
    broker, ran, run, sql, caplog
):
    work = broker.get_actor("work")
    work.send(1)
    write_row(broker, sql)
    work.send(2)

    run()

    assert sorted(ran) == [1, 2]
    (letter,) = broker.dead_letters("default")
    assert letter.reason.startswith("DecodeError: ")
    assert len(letter.reason) <= 2000
    assert letter.payload == payload_of(broker, sql)
    assert "cannot be decoded" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "CRITICAL"]


def test_bad_rows_in_one_batch_do_not_hide_one_another(broker, ran, run):
    work = broker.get_actor("work")
    for number, sql in enumerate(BAD.values()):
        write_row(broker, sql, number)
        work.send(number)

    run()

    assert sorted(ran) == list(range(len(BAD)))
    assert broker.queue_counts("default").dead == len(BAD)


def test_an_eta_that_is_no_time_does_not_keep_a_message_from_running(broker, ran, run):
    write_row(broker, text(GOOD.replace(b'"options":{}', b'"options":{"eta":"soon"}')))

    run()

    assert ran == [0]


def test_a_message_for_an_unknown_actor_is_put_aside_and_named(broker, ran, run, caplog):
    work = broker.get_actor("work")
    work.send(1)
    broker.enqueue(work.message(2).copy(actor_name="absent"))
    work.send(3)

    run()

    assert sorted(ran) == [1, 3]
    (letter,) = broker.dead_letters("default")
    assert "no actor named absent is declared" in letter.reason
    assert "known: work" in caplog.text


def test_an_argument_that_is_no_json_is_refused_by_name_and_nothing_is_stored(broker, ran, run):
    work = broker.get_actor("work")

    with pytest.raises(
        TypeError, match=r"work\(\): argument 'number' \(object\) cannot be encoded"
    ):
        work.send(object())
    with pytest.raises(TypeError):
        work.send_many([(1,), (object(),), (2,)])
    work.send(3)
    run()

    assert ran == [3]


def test_a_call_that_does_not_fit_the_actor_fails_with_pythons_words(broker, ran, run):
    work = broker.get_actor("work")
    for arguments in [(), (1, 2)]:
        work.send_with_options(args=arguments, max_retries=0)
    work.send(3)

    run()

    assert ran == [3]
    reasons = [letter.reason for letter in broker.dead_letters("default")]
    assert len(reasons) == 2
    assert all(reason.startswith("TypeError: ") and "argument" in reason for reason in reasons)


def test_an_error_whose_text_cannot_be_stored_is_stored_in_escapes(broker, ran, run):
    @dramatiq.actor(broker=broker, max_retries=0)
    def fail():
        raise ValueError("a name like \udcff, a bell \a and\na second line")

    fail.send()
    broker.get_actor("work").send(1)

    run()

    assert ran == [1]
    (letter,) = broker.dead_letters("default")
    assert letter.reason == r"ValueError: a name like \udcff, a bell \x07 and\na second line"


def test_a_result_that_the_next_step_cannot_be_given_makes_a_dead_letter(broker, ran, run):
    @dramatiq.actor(broker=broker)
    def give():
        return object()

    work = broker.get_actor("work")
    dramatiq.pipeline([give.message(), work.message()], broker=broker).run()
    work.send(1)

    run()

    assert ran == [1]
    (letter,) = broker.dead_letters("default")
    assert "cannot be encoded" in letter.reason

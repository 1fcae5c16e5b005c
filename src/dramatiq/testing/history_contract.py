# ruff: noqa: D102 - a test's name is its sentence.
"""What every store of the history must do, as tests.

Inherit in a test module and supply the store; pytest runs every test on it:

    class TestMyStore(HistoryStoreContract):
        @pytest.fixture
        def store(self):
            return MyStore()
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..common import current_millis
from ..history import ActorFigures, Attempt, AttemptOutcome, HistorySelection
from ..history.store import MINUTE_MS, SCANNED_PER_PAGE
from .waiting import run_together

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..history import HistoryStore

__all__ = ["HistoryStoreContract", "make_attempt"]

#: Milliseconds that no test outlives.
LONG = 600_000
#: More attempts than any test adds.
MANY = 1_000_000


def make_attempt(**fields: Any) -> Attempt:
    """Return an attempt that has just ended well, with anything else as wanted."""
    now = current_millis()
    defaults: dict[str, Any] = {
        "message_id": str(uuid4()),
        "actor_name": "add",
        "queue_name": "default",
        "outcome": AttemptOutcome.DONE,
        "number": 1,
        "sent_at": now - 20,
        "started_at": now - 10,
        "ended_at": now,
        "duration_ms": 10.0,
    }
    return Attempt(**{**defaults, **fields})


def make_failure(**fields: Any) -> Attempt:
    """Return an attempt that has just failed."""
    defaults = {
        "outcome": AttemptOutcome.FAILED,
        "exception": "ValueError",
        "error": "no",
        "traceback": "Traceback …",
    }
    return make_attempt(**{**defaults, **fields})


def add(
    store: HistoryStore, *attempts: Attempt, ttl: int = LONG, max_records: int = MANY
) -> list[Attempt]:
    """Add attempts in one step."""
    store.add(attempts, ttl=ttl, max_records=max_records)
    return list(attempts)


def placeless(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return attempts as they were before the store gave them their places."""
    return [dataclasses.replace(each, position=0) for each in attempts]


class HistoryStoreContract:
    """Tests of a store of the history. Subclasses supply a fixture ``store``, which is empty."""

    # -- attempts

    def test_an_attempt_comes_back_as_it_was_added(self, store: HistoryStore) -> None:
        attempt = make_failure(
            actor_name="ädd ☃",
            queue_name="q:1",
            outcome=AttemptOutcome.RETRIED,
            number=3,
            arguments='{"args":["\\n\U0001f409"],"kwargs":{}}',
            error="line 1\nline 2 \x00 \ud800",
            parent_id="parent",
            group_id="group",
        )

        add(store, attempt)

        assert placeless(store.attempts().attempts) == [attempt]

    def test_the_newest_come_first(self, store: HistoryStore) -> None:
        added = add(store, *(make_attempt() for _ in range(3))) + add(store, make_attempt())

        assert placeless(store.attempts().attempts) == added[::-1]

    def test_pages_give_each_attempt_once_while_others_are_added(self, store: HistoryStore) -> None:
        added = add(store, *(make_attempt() for _ in range(7)))

        seen: list[Attempt] = []
        page = store.attempts(limit=3)
        while page.cursor is not None:
            seen += page.attempts
            add(store, make_attempt())
            page = store.attempts(limit=3, cursor=page.cursor)
        seen += page.attempts

        assert placeless(seen) == added[::-1]

    def test_a_page_that_ends_with_the_oldest_is_the_last(self, store: HistoryStore) -> None:
        add(store, *(make_attempt() for _ in range(3)))

        assert store.attempts(limit=3).cursor is None
        assert store.attempts(limit=2).cursor is not None

    def test_there_may_be_nothing(self, store: HistoryStore) -> None:
        assert store.attempts().attempts == ()
        assert store.attempts(cursor=12).attempts == ()
        assert store.of_message("none") == []
        assert store.actors() == []
        assert store.failures() == []
        assert store.figures("none") == ActorFigures("none", 0, 0, None, None, None, None, None)
        assert store.figures("none").failure_rate == 0

    def test_attempts_are_found_by_each_of_their_fields(self, store: HistoryStore) -> None:
        plain = make_attempt()
        other = make_failure(
            actor_name="other", queue_name="other", parent_id=plain.message_id, group_id="group"
        )
        add(store, plain, other)

        for selection in (
            HistorySelection(outcome=AttemptOutcome.FAILED),
            HistorySelection(actor_name="other"),
            HistorySelection(queue_name="other"),
            HistorySelection(message_id=other.message_id),
            HistorySelection(parent_id=plain.message_id),
            HistorySelection(group_id="group"),
            HistorySelection(AttemptOutcome.FAILED, "other", "other", other.message_id),
        ):
            assert placeless(store.attempts(selection).attempts) == [other], selection
        done = HistorySelection(outcome=AttemptOutcome.DONE)
        assert placeless(store.attempts(done).attempts) == [plain]
        assert store.attempts(HistorySelection(AttemptOutcome.RETRIED)).attempts == ()
        assert store.attempts(HistorySelection(AttemptOutcome.FAILED, "add")).attempts == ()

    def test_the_attempts_of_a_message_come_in_their_order(self, store: HistoryStore) -> None:
        tries = [
            make_failure(message_id="m", outcome=AttemptOutcome.RETRIED),
            make_failure(message_id="m", outcome=AttemptOutcome.RETRIED, number=2),
            make_attempt(message_id="m", number=3),
        ]
        for attempt in tries:
            add(store, attempt, make_attempt())

        assert placeless(store.of_message("m")) == tries

    def test_a_retry_that_was_recorded_first_comes_second_all_the_same(
        self, store: HistoryStore
    ) -> None:
        now = current_millis()
        retry = make_attempt(message_id="m", number=2, started_at=now)
        first = make_failure(message_id="m", started_at=now)
        add(store, retry, first)

        assert placeless(store.of_message("m")) == [first, retry]

    def test_only_the_last_attempts_of_a_message_may_be_wanted(self, store: HistoryStore) -> None:
        now = current_millis()
        tries = [
            make_attempt(message_id="m", number=number, started_at=now + number)
            for number in range(1, 4)
        ]
        add(store, *tries)

        assert placeless(store.of_message("m", limit=2)) == tries[1:]

    def test_one_page_looks_at_a_bounded_number_of_records(self, store: HistoryStore) -> None:
        rare = make_failure(queue_name="rare")
        add(store, rare)
        add(store, *(make_attempt() for _ in range(SCANNED_PER_PAGE)))

        first = store.attempts(HistorySelection(actor_name="add", queue_name="rare"))
        assert first.cursor is not None
        second = store.attempts(
            HistorySelection(actor_name="add", queue_name="rare"), cursor=first.cursor
        )

        assert first.attempts == ()
        assert placeless(second.attempts) == [rare]

    # -- bounds

    def test_the_oldest_go_when_there_are_too_many(self, store: HistoryStore) -> None:
        added = [make_failure(message_id=str(number)) for number in range(20)]
        for attempt in added:
            add(store, attempt, max_records=5)

        assert placeless(store.attempts().attempts) == added[:-6:-1]
        assert store.of_message("1") == []
        assert len(store.attempts(HistorySelection(actor_name="add")).attempts) == 5
        assert len(store.attempts(HistorySelection(AttemptOutcome.FAILED)).attempts) == 5

    def test_a_smaller_limit_is_reached_in_small_steps(self, store: HistoryStore) -> None:
        add(store, *(make_attempt() for _ in range(40)))

        add(store, make_attempt(), max_records=2)
        after_one_step = len(store.attempts().attempts)
        for _ in range(15):
            add(store, make_attempt(), max_records=2)

        assert 2 < after_one_step < 41
        assert len(store.attempts().attempts) == 2

    def test_those_that_are_too_old_go(self, store: HistoryStore) -> None:
        now = current_millis()
        add(store, make_failure(actor_name="old", ended_at=now - 5_000), make_attempt())

        fresh = make_attempt()
        add(store, fresh, ttl=2_000)

        assert fresh in placeless(store.attempts().attempts)
        assert store.attempts(HistorySelection(actor_name="old")).attempts == ()
        assert store.actors() == ["add"]
        assert store.failures() == []

    def test_all_may_go(self, store: HistoryStore) -> None:
        add(store, *(make_failure() for _ in range(150)))

        store.clear()

        assert store.attempts().attempts == ()
        assert store.failures() == []
        assert store.actors() == []
        assert sum(each.failed for each in store.throughput(minutes=2)) == 0
        assert placeless(store.attempts().attempts) == add(store) == []
        again = add(store, make_attempt())
        assert placeless(store.attempts().attempts) == again

    # -- figures

    def test_actors_are_named_in_order(self, store: HistoryStore) -> None:
        add(store, *(make_attempt(actor_name=name) for name in ("b", "c", "a", "b", "ä")))

        assert store.actors() == ["a", "b", "c", "ä"]

    def test_failures_are_grouped_by_actor_and_exception(self, store: HistoryStore) -> None:
        now = current_millis()
        first = make_failure(ended_at=now - 3_000)
        last = make_failure(ended_at=now - 1_000, error="the last")
        other = make_failure(exception="KeyError", ended_at=now, outcome=AttemptOutcome.RETRIED)
        add(store, first, make_failure(ended_at=now - 2_000), make_attempt())
        add(store, last, other)

        latest, earlier = store.failures()

        assert ("add", "KeyError", 1) == (latest.actor_name, latest.exception, latest.count)
        assert ("ValueError", 3) == (earlier.exception, earlier.count)
        assert (now - 3_000, now - 1_000) == (earlier.first_seen, earlier.last_seen)
        assert placeless([earlier.sample]) == [last]
        assert store.failures(limit=1) == [latest]

    def test_figures_tell_durations_and_failures_of_the_last_attempts(
        self, store: HistoryStore
    ) -> None:
        add(store, make_failure(duration_ms=9_999.0))
        add(store, *(make_attempt(duration_ms=float(number)) for number in range(1, 98)))
        add(store, make_failure(duration_ms=98.0))
        add(store, make_failure(duration_ms=99.0, outcome=AttemptOutcome.RETRIED))
        add(store, make_attempt(duration_ms=100.0), make_attempt(actor_name="other"))

        figures = store.figures("add", last=100)

        assert (100, 2, 0.02) == (figures.count, figures.raised, figures.failure_rate)
        assert (50.0, 95.0, 99.0) == (figures.p50_ms, figures.p95_ms, figures.p99_ms)
        assert figures.since is not None
        assert figures.until is not None
        assert figures.since <= figures.until

    def test_skipped_attempts_count_but_have_no_duration(self, store: HistoryStore) -> None:
        add(store, make_attempt(outcome=AttemptOutcome.SKIPPED))

        figures = store.figures("add")

        assert (1, 0, None) == (figures.count, figures.raised, figures.p50_ms)

    def test_throughput_counts_the_outcomes_of_each_minute(self, store: HistoryStore) -> None:
        now = current_millis()
        earlier = now - 2 * MINUTE_MS
        add(store, make_attempt(ended_at=earlier), make_failure(ended_at=earlier))
        add(store, make_attempt(ended_at=earlier), make_attempt(ended_at=now))
        add(store, make_attempt(actor_name="other", ended_at=now))
        add(store, make_attempt(queue_name="other", outcome=AttemptOutcome.SKIPPED, ended_at=now))

        minutes = store.throughput(minutes=3, now=now)

        assert [(now // MINUTE_MS - back) * MINUTE_MS for back in (2, 1, 0)] == [
            each.starts_at for each in minutes
        ]
        assert [(2, 1, 0), (0, 0, 0), (2, 0, 1)] == [
            (each.done, each.failed, each.skipped) for each in minutes
        ]
        assert store.throughput(minutes=1, actor_name="other", now=now)[0].done == 1
        assert store.throughput(minutes=1, queue_name="other", now=now)[0].skipped == 1

    # -- concurrency

    def test_nothing_is_lost_when_many_add_at_once(self, store: HistoryStore) -> None:
        def add_some(thread: int) -> None:
            for number in range(20):
                add(store, make_failure(message_id=f"{thread}.{number}"))

        run_together(4, add_some)

        page = store.attempts(limit=100)
        assert len({each.message_id for each in page.attempts}) == 80
        assert len({each.position for each in page.attempts}) == 80
        assert store.failures()[0].count == 80

from __future__ import annotations

import pytest

import dramatiq
from dramatiq.history import AttemptOutcome, History
from dramatiq.history.stores import PostgresStore, RedisStore, SQLiteStore, StubStore
from dramatiq.testing.history_contract import HistoryStoreContract, add, make_attempt, make_failure
from dramatiq.testing.waiting import wait_until


class TestStubStore(HistoryStoreContract):
    @pytest.fixture
    def store(self):
        return StubStore()


class TestSQLiteStore(HistoryStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = SQLiteStore(path=tmp_path / "history.db")
        yield store
        store.database.close()

    def test_the_history_outlives_its_process(self, store, tmp_path):
        [attempt] = add(store, make_attempt())
        store.database.close()

        again = SQLiteStore(path=tmp_path / "history.db")

        assert [each.message_id for each in again.attempts().attempts] == [attempt.message_id]

    def test_every_question_walks_along_an_index(self, store):
        from dramatiq.history.stores.sqlite import _NEWEST

        add(store, make_attempt())

        for column, statement in _NEWEST.items():
            plan = store._read(f"EXPLAIN QUERY PLAN {statement}", ("x", 5, 5))
            told = " ".join(row[-1] for row in plan)
            assert "TEMP B-TREE" not in told
            assert ("USING INDEX" if column else "INTEGER PRIMARY KEY") in told, told


class TestRedisStore(HistoryStoreContract):
    @pytest.fixture
    def store(self, redis):
        return RedisStore(client=redis)

    def test_all_keys_share_a_slot_and_a_prefix(self, store, redis):
        add(store, make_failure(parent_id="p", group_id="g"))

        assert all(key.startswith(b"{dramatiq-history}:") for key in redis.scan_iter())

    def test_what_is_removed_leaves_nothing_behind(self, store, redis):
        add(store, *(make_failure(parent_id="p", group_id="g") for _ in range(20)))
        store.clear()

        assert list(redis.scan_iter()) == [b"{dramatiq-history}:position"]

    def test_records_that_the_server_evicted_are_passed_over(self, store, redis):
        add(store, make_attempt(), make_attempt(message_id="kept"))
        redis.hdel("{dramatiq-history}:records", 1)

        assert [each.message_id for each in store.attempts().attempts] == ["kept"]
        for _ in range(3):
            add(store, make_attempt(), max_records=1)
        assert len(store.attempts().attempts) == 1


class TestHistoryOfARedisBroker:
    def test_it_is_on_the_server_of_the_broker_under_its_namespace(
        self, make_broker, start_worker, redis
    ):
        broker = make_broker(namespace="shop")
        broker.add_middleware(History())
        outcomes = iter([ValueError("first"), None])

        def work():
            if (error := next(outcomes)) is not None:
                raise error

        actor = dramatiq.actor(work, broker=broker, max_retries=1, min_backoff=1, max_backoff=1)
        message = actor.send()
        start_worker(broker)

        wait_until(lambda: len(broker.history.of_message(message.message_id)) == 2)
        first, second = broker.history.of_message(message.message_id)
        assert ("ValueError", AttemptOutcome.RETRIED) == (first.exception, first.outcome)
        assert (2, AttemptOutcome.DONE) == (second.number, second.outcome)
        assert redis.llen("{shop-history}:all") == 2


class TestRedisStoreInACluster(HistoryStoreContract):
    @pytest.fixture
    def store(self, redis_cluster):
        with redis_cluster.client() as client:
            client.flushall()
        client = redis_cluster.cluster_client()
        yield RedisStore(client=client)
        client.close()


class TestPostgresStore(HistoryStoreContract):
    @pytest.fixture
    def store(self, postgres_server, postgres):
        store = PostgresStore(url=postgres_server.url)
        yield store
        store.database.close()

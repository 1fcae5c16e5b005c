"""What each hook counts, what becomes of dead processes' files, when a queue stands still."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import prometheus_client.values
import pytest

from dramatiq import Message, MessageProxy, Worker, actor
from dramatiq.broker import Broker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.inspection import QueueCounts, QueueInfo
from dramatiq.middleware import Retries, SkipMessage
from dramatiq.middleware.prometheus import Prometheus, folding, queues, settings, store
from dramatiq.middleware.prometheus.exposition import FileFigures
from dramatiq.middleware.prometheus.health import judge
from dramatiq.middleware.prometheus.store import Store
from dramatiq.testing.waiting import wait_until

#: No process has such a number.
NOBODY = 99_999_999
GONE = f"{NOBODY}x1"


class Figures:
    """A middleware in this process, and what Prometheus would be told of it."""

    def __init__(self, path):
        self.path = path
        self.store = Store.of_this_process(path)
        self.middleware = Prometheus()

    def get(self, name, actor_name="work", **labels):
        """Return a sample; None if there is none."""
        labels = {"queue_name": "default", "actor_name": actor_name, **labels}
        return self.all(name).get(tuple(sorted(labels.items())))

    def all(self, name):
        metrics = FileFigures(self.store).collect()
        samples = [sample for metric in metrics for sample in metric.samples]
        return {
            tuple(sorted(each.labels.items())): each.value for each in samples if each.name == name
        }


@pytest.fixture
def figures(tmp_path, monkeypatch):
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(settings, "DB_PATH", tmp_path)
    monkeypatch.setattr(prometheus_client.values, "ValueClass", None)
    monkeypatch.setattr(Store, "_of_process", None)
    figures = Figures(tmp_path)
    yield figures
    if prometheus_client.values.ValueClass is not None:
        prometheus_client.values.ValueClass.close_all_files()
    figures.store.close()


@pytest.fixture
def broker(stub_broker, figures):
    stub_broker.add_middleware(figures.middleware)
    stub_broker.emit_after("process_boot")
    return stub_broker


@pytest.fixture
def worker(broker):
    worker = Worker(broker, worker_timeout=100, worker_threads=2)
    yield worker
    worker.stop()


def proxy(**options):
    return MessageProxy(Message("default", "work", (), {}, options))


def leave_files(figures, name, count=1, value=1.0):
    """Leave what a process of that name would if it were killed."""
    values = prometheus_client.values.MultiProcessValue(lambda: name)
    labels = (("queue_name", "actor_name"), ("default", "work"), "Help.")
    values("counter", "dramatiq_messages", "dramatiq_messages_total", *labels).inc(value)
    values(
        *("gauge", "dramatiq_messages_inprogress", "dramatiq_messages_inprogress", *labels),
        multiprocess_mode="livesum",
    ).inc(1)
    values.close_all_files()


# -- hooks


def test_messages_are_counted_by_what_became_of_them(broker, figures, worker):
    @actor(max_retries=1, min_backoff=1, max_backoff=1)
    def work(how):
        if how == "fail":
            raise KeyError(how)
        if how == "skip":
            raise SkipMessage

    for how in ("succeed", "skip", "fail"):
        work.send(how)
    worker.start()
    broker.join("default", fail_fast=False, timeout=10_000)
    wait_until(lambda: figures.get("dramatiq_message_rejects_total"))

    assert figures.get("dramatiq_messages_total") == 4
    assert figures.get("dramatiq_message_errors_total") == 2
    assert figures.get("dramatiq_message_retries_total") == 1
    assert figures.get("dramatiq_message_retry_reasons_total", reason="KeyError") == 1
    assert figures.get("dramatiq_message_rejects_total") == 1
    assert figures.get("dramatiq_message_duration_milliseconds_count") == 4
    assert figures.get("dramatiq_message_wait_seconds_count") == 4
    assert figures.get("dramatiq_messages_inprogress") == 0
    assert figures.get("dramatiq_delayed_messages_inprogress") == 0


def test_a_message_is_in_progress_between_its_hooks(broker, figures):
    message = proxy()

    broker.emit_before("process_message", message)
    assert figures.get("dramatiq_messages_inprogress") == 1

    broker.emit_after("process_message", message, result=None)
    assert figures.get("dramatiq_messages_inprogress") == 0


def test_hooks_that_an_interrupt_has_run_twice_count_once(broker, figures):
    message = proxy()

    broker.emit_before("process_message", message)
    broker.emit_after("process_message", message, result=None)
    broker.emit_after("process_message", message, exception=ValueError())

    assert figures.get("dramatiq_messages_total") == 1
    assert figures.get("dramatiq_messages_inprogress") == 0


def test_a_message_that_another_middleware_skipped_is_counted_and_was_never_in_progress(
    broker, figures
):
    broker.emit_after("skip_message", proxy())

    assert figures.get("dramatiq_messages_total") == 1
    assert figures.get("dramatiq_messages_inprogress") == 0
    assert figures.get("dramatiq_message_duration_milliseconds_count") == 0


def test_waiting_begins_when_a_delay_ends(broker, figures):
    delayed = proxy()
    broker.emit_before("enqueue", delayed, 3_600_000)

    broker.emit_before("process_message", delayed)

    assert figures.get("dramatiq_message_wait_seconds_bucket", le="0.005") == 1


def test_waiting_begins_when_a_message_without_delay_is_made(broker, figures):
    message = proxy()
    message.message_timestamp -= 20_000

    broker.emit_before("process_message", message)

    assert figures.get("dramatiq_message_wait_seconds_bucket", le="10.0") == 0
    assert figures.get("dramatiq_message_wait_seconds_bucket", le="30.0") == 1


def test_a_delayed_message_counts_for_its_queue_until_it_is_enqueued_there(broker, figures):
    message = proxy(eta=1).copy(queue_name="default.DQ")

    broker.emit_before("delay_message", MessageProxy(message))
    assert figures.get("dramatiq_delayed_messages_inprogress") == 1

    broker.emit_after("enqueue", message.copy(queue_name="default"), None)
    assert figures.get("dramatiq_delayed_messages_inprogress") == 0


def test_delayed_messages_that_a_lost_connection_took_are_forgotten(broker, figures):
    broker.emit_before("delay_message", proxy())

    for expected in (1, 0):
        figures.middleware._forget_unparked(set)
        assert figures.get("dramatiq_delayed_messages_inprogress") == expected


def test_a_retried_message_that_comes_due_is_no_second_retry(broker, figures):
    message = Message("default", "work", (), {}, {"retries": 1})

    for delay in (50, None):
        broker.emit_before("enqueue", message, delay)
        broker.emit_after("enqueue", message, delay)

    assert figures.get("dramatiq_message_retries_total") == 1


def test_without_a_process_boot_nothing_is_counted_and_nothing_fails(figures, caplog):
    stub_broker = StubBroker(middleware=[figures.middleware])
    message = proxy(retries=1)

    for signal in ("delay_message", "process_message", "ack"):
        stub_broker.emit_before(signal, message)
    stub_broker.emit_after("enqueue", message, None)
    stub_broker.emit_after("process_message", message, result=None)
    stub_broker.emit_after("nack", message)

    assert not list(figures.path.glob("*.db"))
    assert not caplog.records


def test_a_worker_tells_what_it_is_busy_with_and_takes_that_back_when_it_stops(
    broker, figures, worker
):
    worker.start()

    assert figures.all("dramatiq_worker_processes") == {(): 1}
    assert figures.all("dramatiq_worker_threads") == {(): 2}
    assert figures.all("dramatiq_worker_busy_threads") == {(): 0}

    worker.stop()

    assert figures.all("dramatiq_worker_processes") == {}


def test_another_worker_of_the_same_process_counts_on(broker, figures):
    for expected in (1, 2):
        worker = Worker(broker, worker_timeout=100, worker_threads=1)
        worker.start()
        broker.emit_after("process_message", proxy(), result=None)
        assert figures.get("dramatiq_messages_total") == expected
        assert figures.all("dramatiq_worker_threads") == {(): 1}
        worker.stop()


def test_a_folder_that_cannot_be_written_to_costs_the_metrics_and_nothing_else(
    stub_broker, figures, monkeypatch, caplog
):
    (figures.path / "file").touch()
    monkeypatch.setattr(settings, "DB_PATH", figures.path / "file")
    stub_broker.add_middleware(figures.middleware)

    stub_broker.emit_after("process_boot")

    assert "Set dramatiq_prom_db to a folder that can." in caplog.text


def test_figures_of_many_actors_outgrow_their_file_and_stay_exact(broker, figures):
    for number in range(80):
        message = MessageProxy(Message("default", f"actor{number % 40}", (), {}, {}))
        broker.emit_before("process_message", message)
        broker.emit_after("process_message", message, result=None)

    [histograms] = figures.path.glob("histogram_*.db")
    assert histograms.stat().st_size > store.FILE_SIZE
    for name in ("dramatiq_messages_total", "dramatiq_message_wait_seconds_count"):
        assert list(figures.all(name).values()) == [2] * 40


def test_a_process_that_the_application_forks_counts_nothing(figures):
    code = """if True:
        import os
        from dramatiq import Message, MessageProxy
        from dramatiq.brokers.stub import StubBroker
        from dramatiq.middleware.prometheus import Prometheus

        middleware = Prometheus()
        middleware.after_process_boot(None)
        middleware._metrics.series("default", "work")
        child = os.fork()
        middleware.after_skip_message(None, MessageProxy(Message("default", "work", (), {}, {})))
        if child:
            os.waitpid(child, 0)
            series = middleware._metrics.series("default", "work")
            assert series._total.value == 1
            from dramatiq.middleware.prometheus.exposition import FileFigures

            [total] = [
                sample.value
                for metric in FileFigures(middleware._store).collect()
                for sample in metric.samples
                if sample.name == "dramatiq_messages_total"
            ]
            assert total == 1
        """

    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "dramatiq_prom_db": str(figures.path)},
        check=True,
    )


def test_the_middleware_comes_after_retries_whose_work_it_counts(broker):
    kinds = [type(each) for each in broker.middleware]
    assert kinds.index(Retries) < kinds.index(Prometheus)


# -- files


def test_what_a_dead_process_has_counted_stays_and_its_gauges_go(figures):
    leave_files(figures, f"{figures.store.program}-{GONE}")

    assert figures.get("dramatiq_messages_total") == 1
    assert figures.get("dramatiq_messages_inprogress") is None


def test_a_living_process_of_this_program_keeps_its_gauges(figures):
    leave_files(figures, figures.store.process_name())

    assert figures.get("dramatiq_messages_inprogress") == 1


def test_files_of_recycled_processes_are_added_up_into_one(figures):
    for number in range(50):
        leave_files(figures, f"{figures.store.program}-{NOBODY}x{number}", value=number)
        assert figures.get("dramatiq_messages_total") == sum(range(number + 1))

    assert len(list(figures.path.glob("*.db"))) <= store.SPARE_FILES + 1


@pytest.mark.parametrize("step", ["before_note", "after_note"])
def test_being_killed_while_adding_up_counts_nothing_twice(figures, step):
    for number in range(store.SPARE_FILES + 5):
        leave_files(figures, f"{figures.store.program}-{NOBODY}x{number}")
    code = f"""if True:
        from pathlib import Path
        from dramatiq.middleware.prometheus.store import Store
        Store(Path({str(figures.path)!r}), {figures.store.program!r}).tidy()
        """

    killed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DRAMATIQ_FAILPOINTS": f"prometheus.fold.{step}=kill"},
        check=False,
    )

    assert killed.returncode < 0
    assert figures.get("dramatiq_messages_total") == store.SPARE_FILES + 5
    assert len(list(figures.path.glob("*.db"))) == 1
    assert not folding._note(figures.path, figures.store.program).exists()


def test_what_an_earlier_run_has_left_is_not_counted_and_goes(figures):
    Store(figures.path, GONE).close()
    leave_files(figures, f"{GONE}-2x2")
    (figures.path / "counter_123.db").write_bytes(b"left by a 2.x")

    similar = figures.path / f"counter_{GONE}2-2x2.db"
    similar.touch()

    assert figures.get("dramatiq_messages_total") is None
    assert [similar] == list(figures.path.glob(f"*{GONE}*"))
    assert (figures.path / "counter_123.db").exists()


def hold(path, program, entered, leave):
    Store(path, program)
    entered.set()
    leave.wait(20)


def test_what_another_program_needs_is_not_counted_and_stays(figures):
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(figures.path, GONE, entered, leave))
    process.start()
    assert entered.wait(20)
    leave_files(figures, f"{GONE}-2x2")

    assert figures.get("dramatiq_messages_total") is None
    assert len(list(figures.path.glob(f"*{GONE}*"))) == 3

    leave.set()
    process.join()
    process.close()
    figures.store.tidy()
    assert not list(figures.path.glob(f"*{GONE}*"))


def test_a_file_that_is_just_being_made_is_not_read(figures):
    (figures.path / f"counter_{figures.store.process_name()}.db").touch()

    assert figures.get("dramatiq_messages_total") is None


def test_metrics_of_the_application_are_served_with_the_id_of_their_process(broker, figures):
    gauge = prometheus_client.Gauge("free_space", "Mine.", registry=None)

    gauge.set(5)

    assert figures.all("free_space") == {(("pid", str(os.getpid())),): 5}


# -- health


def test_all_is_well_while_every_queue_is_fetched_from():
    assert judge({"1": {"default": 95, "default.DQ": 99}}, 100, patience_s=10) == []


def test_a_queue_that_stands_still_is_named():
    [problem] = judge({"1": {"default": 99, "mail": 80}, "2": {"mail": 99}}, 100, patience_s=10)

    assert "Queue 'mail' stands still: process 1 has not asked" in problem
    assert "for 20 s" in problem


def test_nobody_is_expected_to_fetch_while_it_stops():
    assert judge({"1": {"default": float("inf")}}, 100, patience_s=10) == []


@pytest.mark.parametrize("fetches", [{}, {"1": {}}])
def test_nothing_is_well_without_a_process_that_fetches(fetches):
    [problem] = judge(fetches, 100, patience_s=10)

    assert problem.startswith("No worker process fetches")


# -- queues


class TwoQueues(Broker):
    """Tells of two queues, one of which has messages."""

    is_down = False

    def get_declared_queues(self):
        return {"default", "mail"}

    @property
    def inspection(self):
        if self.is_down:
            raise BrokerConnectionError("gone")
        return self

    def queue(self, name):
        if name == "mail":
            return QueueInfo(name, QueueCounts())
        return QueueInfo(name, QueueCounts(1, 2, 3, 4), oldest_at=1000)


def ask(broker, monkeypatch):
    monkeypatch.setattr(queues, "load_broker", lambda: broker)
    figures = queues.QueueFigures()
    figures.load()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in figures.collect()
        for sample in metric.samples
    }


def test_the_broker_is_asked_for_what_waits(monkeypatch):
    samples = ask(TwoQueues([]), monkeypatch)

    states = ("ready", "delayed", "leased", "dead")
    depth = [samples["dramatiq_queue_messages", "default", state] for state in states]
    assert depth == [1, 2, 3, 4]
    assert samples["dramatiq_queue_oldest_message_age_seconds", "default"] > 1e9
    assert samples["dramatiq_queue_oldest_message_age_seconds", "mail"] == 0
    assert samples["dramatiq_broker_up",] == 1
    assert samples["dramatiq_broker_round_trip_seconds",] >= 0


def test_of_a_broker_that_fails_only_that_is_told(monkeypatch, caplog):
    broker = TwoQueues([])
    broker.is_down = True

    assert ask(broker, monkeypatch) == {("dramatiq_broker_up",): 0}
    assert "The broker cannot be asked about its queues: gone" in caplog.text


def test_a_broker_that_cannot_be_asked_is_not_down(monkeypatch, caplog):
    broker = Broker([])
    broker.queues = {"default": None}

    assert ask(broker, monkeypatch) == {}
    assert "does not support 'queue'" in caplog.text


def test_a_broker_in_the_memory_of_the_workers_is_not_asked(stub_broker, monkeypatch):
    assert ask(stub_broker, monkeypatch) == {}

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import dramatiq
from dramatiq import group, pipeline
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.integrations.opentelemetry import OpenTelemetry, measurements, middleware
from dramatiq.middleware import AsyncIO, GroupCallbacks, Middleware, SkipMessage
from dramatiq.rate_limits.backends import StubBackend
from dramatiq.testing.waiting import wait_until
from tests.worker.brokers import OwnedStubBroker


@pytest.fixture(params=["stub", "owned", "sqlite"])
def broker(request, tmp_path):
    """A broker for each way in which messages are stored and settled."""
    if request.param == "sqlite":
        broker = SQLiteBroker(path=tmp_path / "dramatiq.db")
        yield broker
        broker.close()
    elif request.param == "owned":
        yield OwnedStubBroker(fail_fast_default=False)
    else:
        yield StubBroker(fail_fast_default=False)


class Tracing:
    """A broker that is traced, and the means to look at what was recorded."""

    def __init__(self, broker, start_worker, **options):
        self.broker = broker
        self._start_worker = start_worker
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.middleware = OpenTelemetry(
            tracer_provider=self.provider,
            meter_provider=MeterProvider([self._reader]),
            **options,
        )
        broker.add_middleware(self.middleware)

    def actor(self, fn, **options):
        return dramatiq.actor(fn, broker=self.broker, **{"max_retries": 0, **options})

    def run(self, attempts=1):
        """Run what was sent until there are so many attempts; return their spans."""
        worker = self._start_worker(self.broker)
        wait_until(lambda: len(self.spans("process")) >= attempts)
        worker.stop()
        assert len(self.spans("process")) == attempts
        return self.spans("process")

    def spans(self, operation):
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.attributes.get("messaging.operation.name") == operation
        ]

    def points(self, name):
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def tracing(broker, start_worker):
    return Tracing(broker, start_worker)


def plain(work):
    def run(*args, **kwargs):
        return work(*args, **kwargs)

    return run


def coroutine(work):
    async def run(*args, **kwargs):
        await asyncio.sleep(0)
        return work(*args, **kwargs)

    return run


@pytest.fixture(params=[plain, coroutine])
def kind(request):
    """Turns a function into one of each kind that actors are made of."""
    return request.param


def linked(span):
    return [link.context.span_id for link in span.links]


def test_a_send_is_a_producer_span_of_whoever_sends(tracing):
    actor = tracing.actor(print, queue_name="mail", actor_name="write")
    with tracing.provider.get_tracer("test").start_as_current_span("request") as request:
        message = actor.send("hello")

    [span] = tracing.spans("send")

    assert (SpanKind.PRODUCER, "send mail") == (span.kind, span.name)
    assert request.get_span_context().span_id == span.parent.span_id
    assert {
        "messaging.system": "sqlite" if isinstance(tracing.broker, SQLiteBroker) else "stub",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": message.message_id,
        "dramatiq.actor": "write",
    } == dict(span.attributes)
    assert (
        f"{span.context.trace_id:032x}-{span.context.span_id:016x}"
        in (message.options["traceparent"])
    )


def test_processing_is_a_consumer_span_that_links_to_the_send(tracing, kind):
    message = tracing.actor(kind(lambda: None), actor_name="work").send()

    [span] = tracing.run()

    [send] = tracing.spans("send")
    assert (SpanKind.CONSUMER, "process default") == (span.kind, span.name)
    assert span.parent is None
    assert span.context.trace_id != send.context.trace_id
    assert [send.context.span_id] == linked(span)
    assert StatusCode.UNSET is span.status.status_code
    assert (message.message_id, "work", 0) == (
        span.attributes["messaging.message.id"],
        span.attributes["dramatiq.actor"],
        span.attributes["dramatiq.retries"],
    )


def test_processing_may_be_in_the_trace_of_the_send(broker, start_worker, kind):
    tracing = Tracing(broker, start_worker, is_child=True)
    tracing.actor(kind(lambda: None)).send()

    [span] = tracing.run()

    [send] = tracing.spans("send")
    assert (send.context.span_id, send.context.trace_id) == (
        span.parent.span_id,
        span.context.trace_id,
    )
    assert linked(span) == []


def test_the_span_is_current_while_the_actor_runs_and_only_then(tracing, kind):
    seen = []
    child = tracing.actor(print, actor_name="child")

    def work():
        seen.append(trace.get_current_span().get_span_context().span_id)
        child.send("from the actor")

    tracing.actor(kind(work), actor_name="parent").send()

    class Outermost(Middleware):
        is_loop_safe = True

        def after_process_message(self, broker, message, *, result=None, exception=None):
            seen.append(trace.get_current_span().get_span_context().is_valid)

    tracing.broker.add_middleware(Outermost(), before=type(tracing.broker.middleware[0]))
    spans = tracing.run(2)

    [parent] = [span for span in spans if span.attributes["dramatiq.actor"] == "parent"]
    [send] = [span for span in tracing.spans("send") if span.parent is not None]
    assert [parent.context.span_id, False, False] == seen
    assert parent.context.span_id == send.parent.span_id


def test_async_actors_that_run_at_once_have_their_own_spans(tracing):
    seen = {}

    async def work(number):
        before = trace.get_current_span()
        await asyncio.sleep(0.01)
        assert trace.get_current_span() is before
        seen[number] = before.get_span_context().span_id

    actor = tracing.actor(work)
    for number in range(10):
        actor.send(number)

    spans = tracing.run(10)

    assert {span.context.span_id for span in spans} == set(seen.values())
    assert len(seen) == 10


def test_async_actors_on_threads_see_their_span_too(tracing):
    seen = []

    class NotLoopSafe(Middleware):
        def before_process_message(self, broker, message):
            pass

    async def work():
        seen.append(trace.get_current_span().get_span_context().span_id)

    tracing.broker.add_middleware(AsyncIO())
    tracing.broker.add_middleware(NotLoopSafe())
    tracing.actor(work).send()

    [span] = tracing.run()

    assert [span.context.span_id] == seen


def test_an_error_is_recorded_and_goes_on(tracing, kind):
    def work():
        raise ValueError("no")

    tracing.actor(kind(work)).send()

    [span] = tracing.run()

    assert StatusCode.ERROR is span.status.status_code
    assert "ValueError: no" == span.status.description
    assert "ValueError" == span.attributes["error.type"]
    [event] = span.events
    assert "no" == event.attributes["exception.message"]


def test_every_attempt_of_a_retried_message_links_to_its_one_send(tracing, kind):
    errors = iter([KeyError("first"), subprocess.SubprocessError("second"), None])

    def work():
        if (error := next(errors)) is not None:
            raise error

    tracing.actor(kind(work), max_retries=5, min_backoff=1).send()

    spans = sorted(tracing.run(3), key=lambda span: span.attributes["dramatiq.retries"])

    [send] = tracing.spans("send")
    assert [[send.context.span_id]] * 3 == [linked(span) for span in spans]
    assert [0, 1, 2] == [span.attributes["dramatiq.retries"] for span in spans]
    assert ["KeyError", "subprocess.SubprocessError", None] == [
        span.attributes.get("error.type") for span in spans
    ]


def test_a_delayed_message_keeps_its_context(tracing, kind):
    actor = tracing.actor(kind(lambda: None))
    actor.send_with_options(delay=1)

    [span] = tracing.run()

    [send] = tracing.spans("send")
    assert [send.context.span_id] == linked(span)
    assert 1 == send.attributes["dramatiq.delay_ms"]
    assert "default" == send.attributes["messaging.destination.name"]
    assert "default" == span.attributes["messaging.destination.name"]


def test_each_step_of_a_pipeline_is_sent_by_the_one_before(tracing, kind):
    step = tracing.actor(kind(lambda number: number + 1), actor_name="step")
    messages = [step.message(1), step.message(), step.message()]
    pipeline(messages, broker=tracing.broker).run()

    processed = {span.context.span_id: span for span in tracing.run(3)}

    sends = {span.context.span_id: span for span in tracing.spans("send")}
    assert len(sends) == 3
    chain = [span for span in processed.values() if sends[linked(span)[0]].parent is None]
    while len(chain) < 3:
        last = chain[-1].context.span_id
        [send] = [span for span in sends.values() if span.parent and span.parent.span_id == last]
        chain += [each for each in processed.values() if linked(each) == [send.context.span_id]]
    assert set(processed) == {span.context.span_id for span in chain}


def test_what_a_group_calls_back_is_sent_by_its_last_member(tracing, kind):
    tracing.broker.add_middleware(GroupCallbacks(StubBackend()))
    member = tracing.actor(kind(lambda: None), actor_name="member")
    done = tracing.actor(kind(lambda: None), actor_name="done")
    with tracing.provider.get_tracer("test").start_as_current_span("request") as request:
        members = group([member.message() for _ in range(3)], broker=tracing.broker)
        members.add_completion_callback(done.message())
        members.run()

    spans = tracing.run(4)

    by_actor = {"member": [], "done": []}
    for span in spans:
        by_actor[span.attributes["dramatiq.actor"]].append(span)
    sends = {span.context.span_id: span for span in tracing.spans("send")}
    request_id = request.get_span_context().span_id
    assert {request_id} == {sends[linked(each)[0]].parent.span_id for each in by_actor["member"]}
    [called_back] = by_actor["done"]
    assert sends[linked(called_back)[0]].parent.span_id in {
        each.context.span_id for each in by_actor["member"]
    }


def test_what_is_skipped_before_it_runs_has_no_span(tracing):
    class Skip(Middleware):
        is_loop_safe = True

        def before_process_message(self, broker, message):
            if message.args == ("skip",):
                raise SkipMessage

    tracing.broker.add_middleware(Skip(), before=OpenTelemetry)
    actor = tracing.actor(print)
    actor.send("skip")
    actor.send("run")

    tracing.run(1)


def test_what_its_actor_skips_has_no_error(tracing, kind):
    def work():
        raise SkipMessage

    tracing.actor(kind(work)).send()

    [span] = tracing.run()

    assert StatusCode.UNSET is span.status.status_code


def test_baggage_reaches_the_actor(tracing, kind):
    seen = []
    actor = tracing.actor(kind(lambda: seen.append(baggage.get_baggage("tenant"))))
    token = context.attach(baggage.set_baggage("tenant", "blue"))
    actor.send()
    context.detach(token)
    actor.send()

    tracing.run(2)

    assert {None, "blue"} == set(seen)


@pytest.mark.parametrize("traceparent", [None, 12, "", "00-zz", ["00"], "\udc00"])
def test_a_message_of_somebody_else_is_processed_all_the_same(tracing, traceparent):
    tracing.actor(print, actor_name="work")
    tracing.broker.middleware.remove(tracing.middleware)
    options = {} if traceparent is None else {"traceparent": traceparent}
    tracing.broker.enqueue(dramatiq.Message("default", "work", ("hi",), {}, options))
    tracing.broker.middleware.append(tracing.middleware)

    [span] = tracing.run()

    assert span.parent is None
    assert linked(span) == []


def test_a_send_that_fails_is_not_reported_and_not_kept(tracing, monkeypatch):
    class Refuse(Middleware):
        def before_enqueue(self, broker, message, delay):
            raise dramatiq.middleware.MiddlewareError("closed")

    monkeypatch.setattr(middleware, "MAX_SENDING", 3)
    actor = tracing.actor(print)
    tracing.broker.add_middleware(Refuse())
    for _ in range(10):
        with pytest.raises(dramatiq.middleware.MiddlewareError):
            actor.send()

    assert tracing.spans("send") == []
    assert len(tracing.middleware._sending) == 3


def test_durations_waits_and_sends_are_measured(tracing, kind):
    def work(number):
        if number == 2:
            raise ValueError

    actor = tracing.actor(kind(work), actor_name="work")
    for number in range(3):
        actor.send(number)

    tracing.run(3)

    durations = {
        point.attributes.get("error.type"): point
        for point in tracing.points("messaging.process.duration")
    }
    assert {None: 2, "ValueError": 1} == {name: each.count for name, each in durations.items()}
    assert "work" == durations[None].attributes["dramatiq.actor"]
    assert "messaging.message.id" not in durations[None].attributes
    [wait] = tracing.points("dramatiq.wait.duration")
    assert (3, True) == (wait.count, 0 <= wait.sum < 30)
    [sent] = tracing.points("messaging.client.sent.messages")
    assert (3, "send") == (sent.value, sent.attributes["messaging.operation.name"])


def test_a_delay_is_no_waiting(tracing, monkeypatch):
    sent_at = 5_000_000_000_000
    monkeypatch.setattr(measurements, "current_millis", lambda: sent_at)
    tracing.actor(print).send_with_options(args=("late",), delay=5)

    monkeypatch.setattr(measurements, "current_millis", lambda: sent_at + 5 + 2_000)
    tracing.run()

    [wait] = tracing.points("dramatiq.wait.duration")
    assert (1, 2.0) == (wait.count, wait.sum)


def test_what_a_retry_has_waited_counts_from_when_it_was_due(tracing, monkeypatch):
    errors = iter([ValueError("first"), None])

    def work():
        if (error := next(errors)) is not None:
            raise error

    message = tracing.actor(work, max_retries=1).send_with_options(min_backoff=1, max_backoff=1)
    # Asked as the first attempt starts, as the retry is sent, and as that starts.
    clock = iter(message.message_timestamp + seconds * 1_000 for seconds in (10, 100, 103))
    monkeypatch.setattr(measurements, "current_millis", lambda: next(clock))
    tracing.run(2)

    [wait] = tracing.points("dramatiq.wait.duration")
    assert (2, 10.0) == (wait.count, wait.max)
    assert 2.9 <= wait.min <= 3.0


def test_old_names_are_added_for_who_opts_in(broker, start_worker, monkeypatch):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, messaging/dup")
    tracing = Tracing(broker, start_worker)
    tracing.actor(print).send("hi")

    [span] = tracing.run()

    assert ("process", "process") == (
        span.attributes["messaging.operation"],
        span.attributes["messaging.operation.name"],
    )
    assert "publish" == tracing.spans("send")[0].attributes["messaging.operation"]


def test_without_the_sdk_messages_are_left_as_they_are(broker, start_worker):
    broker.add_middleware(OpenTelemetry())
    ran = []

    message = dramatiq.actor(ran.append, broker=broker, actor_name="work").send(1)
    worker = start_worker(broker)
    wait_until(lambda: ran)
    worker.stop()

    assert message.options == {}


def test_it_says_what_to_install():
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import dramatiq.integrations.opentelemetry\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )

    output = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert "pip install 'dramatiq[otel]'" in output

"""Traces and metrics by OpenTelemetry, with its conventions for messaging.

A message carries the context in which it was sent in its options, under the names that the
propagator uses: ``traceparent`` and what goes with it. It keeps that over delays and retries, so
that each attempt is a span that leads back to the one that sent it.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import context, metrics, propagate, trace
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "The OpenTelemetry middleware needs the package opentelemetry-api: "
        "pip install 'dramatiq[otel]'",
        name=missing.name,
    ) from None
import contextvars

from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from ..common import current_millis, q_name
from ..middleware.middleware import Middleware

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider

    from ..broker import Broker, MessageProxy
    from ..message import Message

__all__ = ["OpenTelemetry"]

# The attributes, as of the conventions 1.30, which still count as in development:
# https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
MESSAGE_ID = "messaging.message.id"
ERROR_TYPE = "error.type"
#: What the conventions up to 1.24 had in place of the two above.
OLD_OPERATION = "messaging.operation"
#: The names that the operations had there.
OLD_NAMES = {"send": "publish", "process": "process"}
# No convention knows these.
ACTOR = "dramatiq.actor"
RETRIES = "dramatiq.retries"
DELAY = "dramatiq.delay_ms"

#: Environment variable by which users ask for old attributes beside the new ones.
OPT_IN_VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"
#: Upper bounds of the buckets of both histograms, in seconds, as the conventions advise; and some
#: more, for messages may run and wait longer than requests do.
BUCKETS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(30, 60, 300, 1_800, 3_600),
)
#: Most sends whose end is awaited. One that failed never ends, and is forgotten in time.
MAX_SENDING = 10_000

#: The message option that tells when a delayed message is due, in UNIX epoch milliseconds.
DUE_OPTION = "otel_due_at"
#: The attribute of a proxy that holds its attempt.
_ATTEMPT = "_opentelemetry_attempt"

#: The span of the message that this context processes, or has processed last: what hooks send
#: that run after the span has ended, the next step of a pipeline for example, belongs to it.
_last_span: contextvars.ContextVar[Span | None] = contextvars.ContextVar(
    "dramatiq_opentelemetry_span", default=None
)


class _Attempt:
    """The span around one run of an actor, and what is needed to end it."""

    __slots__ = ("attributes", "span", "started_at_s", "token")

    def __init__(self, span: Span, token: Any, attributes: dict[str, Any]) -> None:
        self.span = span
        self.token = token
        self.attributes = attributes
        self.started_at_s = time.perf_counter()


class OpenTelemetry(Middleware):
    """Makes a span of each send and of each attempt to process a message, and measures both.

    ``send <queue>`` lasts until the broker has accepted the message; one that fails is not
    reported, whoever sent it gets the error. ``process <queue>`` is current while the actor runs.
    Durations and waiting times go to the histograms ``messaging.process.duration`` and
    ``dramatiq.wait.duration``, in seconds, sent messages to the counter
    ``messaging.client.sent.messages``.

    Without the SDK, or before it is set up, nothing is recorded and no message is changed.

    Args:
        is_child: Whether the processing of a message is in the trace of its sending, as its child.
            By default it starts a trace of its own that links to it, for one that takes hours or
            is retried for days fits in no trace.
        tracer_provider: The provider to use; by default the global one.
        meter_provider: The provider to use; by default the global one.
        propagator: How the context is written; by default the global propagator, W3C's unless
            told otherwise.
    """

    is_loop_safe = True

    def __init__(
        self,
        *,
        is_child: bool = False,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
    ) -> None:
        self.is_child = is_child
        self._tracer = trace.get_tracer("dramatiq", tracer_provider=tracer_provider)
        self._propagator = propagator
        opted_in = os.environ.get(OPT_IN_VARIABLE, "").split(",")
        self._adds_old_names = "messaging/dup" in {each.strip() for each in opted_in}
        #: Guards ``_sending``: the messages that are being sent, by their place in memory.
        self._mutex = threading.Lock()
        self._sending: dict[int, tuple[Message[Any], Span]] = {}
        meter = metrics.get_meter("dramatiq", meter_provider=meter_provider)
        self._durations = meter.create_histogram(
            "messaging.process.duration",
            unit="s",
            description="Duration of processing a message.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )
        self._waits = meter.create_histogram(
            "dramatiq.wait.duration",
            unit="s",
            description="How long messages waited from when they were due.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )
        self._sent = meter.create_counter(
            "messaging.client.sent.messages",
            unit="{message}",
            description="Number of messages sent.",
        )

    # -- sending

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Start the span of a send, and have the message carry it.

        A retry, and a message that only moves from a delay queue to its own, carries one already.
        """
        if self._carried(message):
            _note_due(message, delay)
            return
        attributes = self._attributes(broker, message, "send")
        if delay is not None:
            attributes[DELAY] = delay
        parent = self._sender()
        span = self._tracer.start_span(
            f"send {attributes[DESTINATION]}",
            context=parent,
            kind=SpanKind.PRODUCER,
            attributes={**attributes, MESSAGE_ID: message.message_id},
        )
        carrier: dict[str, str] = {}
        self._propagator_in_use.inject(carrier, context=trace.set_span_in_context(span, parent))
        if carrier:
            message.options.update(carrier)
            _note_due(message, delay)
        with self._mutex:
            self._sending[id(message)] = message, span
            if len(self._sending) > MAX_SENDING:
                del self._sending[next(iter(self._sending))]

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """End the span of a send."""
        with self._mutex:
            _, span = self._sending.pop(id(message), (None, None))
        if span is not None:
            span.end()
            self._sent.add(1, self._attributes(broker, message, "send"))

    @property
    def _propagator_in_use(self) -> TextMapPropagator:
        return self._propagator or propagate.get_global_textmap()

    def _carried(self, message: Message[Any] | MessageProxy) -> dict[str, str]:
        """Return what a message carries of the context in which it was sent."""
        options = message.options
        return {
            name: value
            for name in self._propagator_in_use.fields
            if isinstance(value := options.get(name), str)
        }

    def _sender(self) -> Context:
        """Return the context in which something is sent."""
        current = context.get_current()
        last = _last_span.get()
        if last is None or trace.get_current_span(current).get_span_context().is_valid:
            return current
        return trace.set_span_in_context(last, current)

    # -- processing

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Start the span of an attempt, and make it the current one."""
        attributes = self._attributes(broker, message, "process")
        sent_in = self._propagator_in_use.extract(self._carried(message), context=context.Context())
        sender = trace.get_current_span(sent_in).get_span_context()
        is_linked = sender.is_valid and not self.is_child
        # What else was carried, baggage for example, is there for the actor either way.
        parent = trace.set_span_in_context(trace.INVALID_SPAN, sent_in) if is_linked else sent_in
        span = self._tracer.start_span(
            f"process {attributes[DESTINATION]}",
            context=parent,
            kind=SpanKind.CONSUMER,
            links=[Link(sender)] if is_linked else [],
            attributes={
                **attributes,
                MESSAGE_ID: message.message_id,
                RETRIES: _integer(message.options.get("retries")) or 0,
            },
        )
        _last_span.set(span)
        token = context.attach(trace.set_span_in_context(span, parent))
        vars(message)[_ATTEMPT] = _Attempt(span, token, attributes)
        if (due_at := _due_at(message)) is not None:
            waited_s = max(0, current_millis() - due_at) / 1_000
            self._waits.record(waited_s, attributes)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """End the span of an attempt."""
        self._end(message, exception)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """End the span of an attempt that was skipped while it ran."""
        self._end(message, None)

    def _end(self, message: MessageProxy, exception: BaseException | None) -> None:
        # One that an earlier middleware skipped has none, and hooks may run twice.
        attempt: _Attempt | None = vars(message).pop(_ATTEMPT, None)
        if attempt is None:
            return
        duration_s = time.perf_counter() - attempt.started_at_s
        context.detach(attempt.token)
        attributes = attempt.attributes
        if exception is not None:
            error_type = _name_of(type(exception))
            attributes = {**attributes, ERROR_TYPE: error_type}
            attempt.span.set_attribute(ERROR_TYPE, error_type)
            attempt.span.record_exception(exception)
            description = f"{type(exception).__name__}: {exception}"
            attempt.span.set_status(Status(StatusCode.ERROR, description))
        attempt.span.end()
        self._durations.record(duration_s, attributes)

    def _attributes(
        self, broker: Broker, message: Message[Any] | MessageProxy, operation: str
    ) -> dict[str, Any]:
        """Return what spans and measurements of a message have in common."""
        attributes = {
            SYSTEM: _system_of(type(broker)),
            OPERATION_NAME: operation,
            OPERATION_TYPE: operation,
            DESTINATION: q_name(message.queue_name),
            ACTOR: message.actor_name,
        }
        if self._adds_old_names:
            attributes[OLD_OPERATION] = OLD_NAMES[operation]
        return attributes


def _system_of(broker_class: type[Broker]) -> str:
    """Return the name of what keeps the messages: ``redis`` for a `RedisBroker`."""
    for each in broker_class.__mro__:
        if each.__module__.startswith("dramatiq.brokers."):
            return each.__name__.removesuffix("Broker").lower()
    return "dramatiq"


def _note_due(message: Message[Any], delay: int | None) -> None:
    """Have a message tell when it is due; its eta is gone by the time it runs."""
    if delay is not None:
        message.options[DUE_OPTION] = current_millis() + delay


def _due_at(message: MessageProxy) -> int | None:
    """Return from when on a message has waited; None where that is not known."""
    due_at = _integer(message.options.get(DUE_OPTION))
    if due_at is None and message.options.get("retries"):
        return None  # sent by somebody else, and it waited between its attempts
    return int(message.message_timestamp) if due_at is None else due_at


def _integer(value: Any) -> int | None:
    """Return a number out of a message's options, which may hold anything."""
    return int(value) if isinstance(value, int | float) else None


def _name_of(exception_class: type[BaseException]) -> str:
    name = exception_class.__qualname__
    module = exception_class.__module__
    return name if module == "builtins" else f"{module}.{name}"

"""The spans, and who is whose parent.

A message carries the context in which it was sent in its options, under the names that the
propagator uses: ``traceparent`` and what goes with it. It keeps that over delays and retries, so
that each attempt is a span that leads back to the one that sent it.
"""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from ...middleware.middleware import Middleware
from .conventions import (
    DELAY,
    DESTINATION,
    ERROR_TYPE,
    MESSAGE_ID,
    RETRIES,
    Conventions,
    error_type_of,
    integer,
)
from .measurements import Measurements, note_due

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider

    from ...broker import Broker, MessageProxy
    from ...message import Message

__all__ = ["OpenTelemetry"]

#: Most sends whose end is awaited. One that failed never ends, and is forgotten in time.
MAX_SENDING = 10_000
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
        self._conventions = Conventions()
        self._measurements = Measurements(meter_provider)
        #: Guards ``_sending``: the messages that are being sent, by their place in memory.
        self._mutex = threading.Lock()
        self._sending: dict[int, tuple[Message[Any], Span]] = {}

    # -- sending

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Start the span of a send, and have the message carry it.

        A retry, and a message that only moves from a delay queue to its own, carries one already.
        """
        if self._carried(message):
            note_due(message, delay)
            return
        attributes = self._conventions.attributes(broker, message, "send")
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
            note_due(message, delay)
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
            self._measurements.sent(self._conventions.attributes(broker, message, "send"))

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
        attributes = self._conventions.attributes(broker, message, "process")
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
                RETRIES: integer(message.options.get("retries")) or 0,
            },
        )
        _last_span.set(span)
        token = context.attach(trace.set_span_in_context(span, parent))
        vars(message)[_ATTEMPT] = _Attempt(span, token, attributes)
        self._measurements.started(message, attributes)

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
            error_type = error_type_of(type(exception))
            attributes = {**attributes, ERROR_TYPE: error_type}
            attempt.span.set_attribute(ERROR_TYPE, error_type)
            attempt.span.record_exception(exception)
            description = f"{type(exception).__name__}: {exception}"
            attempt.span.set_status(Status(StatusCode.ERROR, description))
        attempt.span.end()
        self._measurements.ended(duration_s, attributes)

"""The metrics: how long messages take, how long they have waited, how many are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import metrics

from ...common import current_millis
from .conventions import integer

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from ...broker import MessageProxy
    from ...message import Message

__all__ = ["Measurements", "note_due"]

#: Upper bounds of the buckets of both histograms, in seconds, as the conventions advise; and some
#: more, for messages may run and wait longer than requests do.
BUCKETS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(30, 60, 300, 1_800, 3_600),
)
#: The message option that tells when a delayed message is due, in UNIX epoch milliseconds.
DUE_OPTION = "otel_due_at"


class Measurements:
    """The instruments of one middleware.

    Args:
        provider: The provider to use; None is the global one.
    """

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter("dramatiq", meter_provider=provider)
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

    def sent(self, attributes: dict[str, Any]) -> None:
        """Count a message that was sent."""
        self._sent.add(1, attributes)

    def started(self, message: MessageProxy, attributes: dict[str, Any]) -> None:
        """Record how long a message has waited."""
        due_at = _due_at(message)
        if due_at is not None:
            self._waits.record(max(0, current_millis() - due_at) / 1_000, attributes)

    def ended(self, duration_s: float, attributes: dict[str, Any]) -> None:
        """Record how long an attempt took."""
        self._durations.record(duration_s, attributes)


def note_due(message: Message[Any], delay: int | None) -> None:
    """Have a message tell when it is due; its eta is gone by the time it runs."""
    if delay is not None:
        message.options[DUE_OPTION] = current_millis() + delay


def _due_at(message: MessageProxy) -> int | None:
    """Return from when on a message has waited; None where that is not known."""
    due_at = integer(message.options.get(DUE_OPTION))
    if due_at is None and message.options.get("retries"):
        return None  # sent by somebody else, and it waited between its attempts
    return int(message.message_timestamp) if due_at is None else due_at

"""From counts per minute to the bars of a chart."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .charts import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bars_of"]


def bars_of(minutes: Sequence[dict[str, Any]]) -> list[Bar]:
    """Return a bar for each minute. Skipped messages count as done: nothing is wrong with them."""
    return [
        Bar(
            datetime.fromtimestamp(each["starts_at"] / 1_000, UTC).strftime("%H:%M"),
            each["done"] + each["skipped"],
            each["failed"],
            each["retried"],
        )
        for each in minutes
    ]

"""Numbers, durations and moments as people read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["ago", "as_count", "as_duration", "as_iso", "as_moment", "as_percent", "shorten"]

#: Seconds of each unit, the largest first, with the unit that is told beside it.
_UNITS = (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1))


def as_count(number: int | None, limit: int | None = None) -> str:
    """Return a number with separators; one that was counted up to a limit with a plus.

    >>> as_count(1234567), as_count(100_000, 100_000), as_count(None)
    ('1,234,567', '100,000+', '–')
    """
    if number is None:
        return "–"
    return f"{number:,}{'+' if limit is not None and number == limit else ''}"


def as_duration(milliseconds: float | None) -> str:
    """Return a duration in its two largest units.

    >>> as_duration(0.4), as_duration(45), as_duration(1_250), as_duration(7_500_000)
    ('0.4 ms', '45 ms', '1.2 s', '2h 5m')
    """
    if milliseconds is None:
        return "–"
    milliseconds = max(milliseconds, 0)
    if milliseconds < 1_000:
        return f"{milliseconds:.1f} ms" if 0 < milliseconds < 10 else f"{milliseconds:.0f} ms"
    if milliseconds < 10_000:
        return f"{int(milliseconds / 100) / 10:.1f} s"
    seconds = int(milliseconds / 1_000)
    for unit, size, smaller, smaller_size in _UNITS:
        if seconds >= size:
            rest = seconds % size // smaller_size
            return (
                f"{seconds // size}{unit} {rest}{smaller}" if rest else f"{seconds // size}{unit}"
            )
    return f"{seconds} s"


def ago(moment_ms: int | None, now_ms: int) -> str:
    """Return how long ago a moment was, or in how long it will be."""
    if moment_ms is None:
        return "–"
    seconds = abs(now_ms - moment_ms) // 1_000
    if seconds == 0:
        return "just now"
    told = f"{seconds} s" if seconds < 60 else as_duration(seconds * 1_000)
    return f"in {told}" if moment_ms > now_ms else f"{told} ago"


def as_iso(moment_ms: int) -> str:
    """Return a moment for programs, in UTC."""
    moment = datetime.fromtimestamp(moment_ms / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_moment(moment_ms: int | None) -> str:
    """Return a moment for people, in UTC, to the second.

    >>> as_moment(0)
    '1970-01-01 00:00:00 UTC'
    """
    if moment_ms is None:
        return "–"
    return datetime.fromtimestamp(moment_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def as_percent(share: float | None) -> str:
    """Return a share of one.

    >>> as_percent(0.0004), as_percent(0.125), as_percent(0)
    ('0.04 %', '12.5 %', '0 %')
    """
    if share is None:
        return "–"
    percent = share * 100
    return f"{percent:.2g} %" if percent < 1 else f"{percent:.3g} %"


def shorten(text: str, width: int) -> str:
    """Return a text on one line and of at most so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"

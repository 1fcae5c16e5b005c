"""Durations, moments and paces: as users write them, and as they read them. Pure."""

from __future__ import annotations

import argparse
import re
from datetime import datetime

__all__ = [
    "ago",
    "as_duration",
    "as_moment",
    "parse_duration",
    "parse_moment",
    "parse_pace",
    "parse_positive",
]

#: Milliseconds of each unit.
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_PACE = re.compile(r"(\d+(?:\.\d+)?)/([smh])")


def parse_duration(text: str) -> int:
    """Read ``250ms``, ``5m`` or ``1h30m``, and return milliseconds.

    Raises:
        argparse.ArgumentTypeError: If it is something else; a unit is always needed.
    """
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration. Write a number and a unit: 250ms, 30s, 5m, 1h30m, 2d."
        )
    return round(sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text)))


def parse_moment(text: str, now_ms: int) -> int:
    """Read how long ago, as ``2h``, or a date in ISO 8601; return UNIX epoch milliseconds.

    Args:
        text: A date without a zone is meant in the local one.
        now_ms: The present.

    Raises:
        argparse.ArgumentTypeError: If it is neither.
    """
    if _DURATION.fullmatch(text):
        return now_ms - parse_duration(text)
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a duration ago (2h, 30m) nor a date (2026-01-31T12:00)."
        ) from None


def parse_pace(text: str) -> float:
    """Read ``50/s``, ``30/m`` or ``100/h``, and return how many per second.

    Raises:
        argparse.ArgumentTypeError: If it is something else, or zero.
    """
    match = _PACE.fullmatch(text)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a pace. Write 50/s, 30/m or 100/h.")
    return float(match[1]) * 1000 / _UNITS_MS[match[2]]


def parse_positive(text: str) -> int:
    """Read a whole number from 1.

    Raises:
        argparse.ArgumentTypeError: If it is something else.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1.")
    return int(text)


def as_duration(milliseconds: float) -> str:
    """Return a duration in its two largest units, as ``2h 5m``."""
    if milliseconds < 1000:
        return f"{max(milliseconds, 0):.0f}ms"
    seconds = int(milliseconds / 1000)
    for unit, size, smaller in (("d", 86_400, 3_600), ("h", 3_600, 60), ("m", 60, 1)):
        if seconds >= size:
            rest = seconds % size // smaller
            name = {3_600: "h", 60: "m", 1: "s"}[smaller]
            return f"{seconds // size}{unit} {rest}{name}" if rest else f"{seconds // size}{unit}"
    return f"{seconds}s"


def ago(moment_ms: int | None, now_ms: int) -> str:
    """Return how long ago a moment was, or in how long it will be."""
    if moment_ms is None:
        return "-"
    if moment_ms > now_ms:
        return f"in {as_duration(moment_ms - now_ms)}"
    return f"{as_duration(now_ms - moment_ms)} ago"


def as_moment(moment_ms: int) -> str:
    """Return a moment as a date in the local zone, to the millisecond."""
    moment = datetime.fromtimestamp(moment_ms / 1000).astimezone()
    return moment.isoformat(sep=" ", timespec="milliseconds")

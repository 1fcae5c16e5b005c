"""The embedded broker on an SQLite file."""

from __future__ import annotations

from .broker import SQLiteBroker

__all__ = ["SQLiteBroker"]

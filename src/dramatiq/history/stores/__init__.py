"""Where the history is kept; all but the stub are imported when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...optional import import_optional
from .stub import StubStore

if TYPE_CHECKING:
    from .postgres import PostgresStore
    from .redis import RedisStore
    from .sqlite import SQLiteStore

__all__ = ["PostgresStore", "RedisStore", "SQLiteStore", "StubStore"]

_PARTS: dict[str, tuple[str, str | None]] = {
    "PostgresStore": ("postgres", "postgres"),
    "RedisStore": ("redis", "redis"),
    "SQLiteStore": ("sqlite", None),
}


def __getattr__(name: str) -> Any:
    return import_optional(__name__, name, _PARTS)

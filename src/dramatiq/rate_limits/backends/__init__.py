"""Where rate limiters keep their counts; all but the stub are imported when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...optional import import_optional
from .stub import StubBackend

if TYPE_CHECKING:
    from .sqlite import SQLiteBackend

__all__ = ["MemcachedBackend", "PostgresBackend", "RedisBackend", "SQLiteBackend", "StubBackend"]

_PARTS: dict[str, tuple[str, str | None]] = {
    "MemcachedBackend": ("memcached", "memcached"),
    "PostgresBackend": ("postgres", "postgres"),
    "RedisBackend": ("redis", "redis"),
    "SQLiteBackend": ("sqlite", None),
}


def __getattr__(name: str) -> Any:
    return import_optional(__name__, name, _PARTS)

"""Bridges to other systems: each in a module of its own, which needs an extra."""

from __future__ import annotations

__all__: list[str] = []

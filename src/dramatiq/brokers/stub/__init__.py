"""A broker in memory: the reference semantics, and the broker for an application's tests."""

from __future__ import annotations

from .broker import StubBroker
from .consumer import _StubConsumer, _StubMessageProxy

__all__ = ["StubBroker", "_StubConsumer", "_StubMessageProxy"]

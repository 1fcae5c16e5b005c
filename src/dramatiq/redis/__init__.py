"""Connections to Redis and servers that speak its protocol: what broker and backends share.

Nothing is connected before it is used, every wait has a deadline, and whatever the client library
raises leaves as an error of this library that is also one of the client's.
"""

from __future__ import annotations

from .client import make_client
from .failures import explain, is_passing
from .link import Link, LinkPool
from .script import Script
from .store import Store

__all__ = ["Link", "LinkPool", "Script", "Store", "explain", "is_passing", "make_client"]

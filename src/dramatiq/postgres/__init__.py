"""A schema in a PostgreSQL database: what broker and backends on PostgreSQL share.

`open_database` gives the one `Database` of a process for a server and a schema. Its connections
are opened when they are used, never carried across a fork, and no call waits for a server for ever.
"""

from __future__ import annotations

from .database import Database, open_database
from .link import Link
from .statements import Statements

__all__ = ["Database", "Link", "Statements", "open_database"]

"""One SQLite file that several processes share: the foundation of everything embedded.

`open_database` gives the one `Database` of a process for a file. Writes go through its writer
thread, which commits what arrives together in one transaction.
"""

from __future__ import annotations

from .database import DEFAULT_PATH, Database, open_database
from .place import path_of_url

__all__ = ["DEFAULT_PATH", "Database", "open_database", "path_of_url"]

"""Lua scripts that run inside the server: one operation per file, each one atomic."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Script"]


class Script:
    """One script, known to servers by its hash.

    Args:
        text: Its source.
        is_sent_whole: Whether its source is sent each time, for a script that must have run
            before others of the same round trip do. A server that has just been started or
            promoted does not know it, and would run those it knows first.

    Attributes:
        sha: The hash under which a server keeps it.
    """

    __slots__ = ("is_sent_whole", "sha", "text")

    def __init__(self, text: bytes, *, is_sent_whole: bool = False) -> None:
        self.text = text
        self.is_sent_whole = is_sent_whole
        # Redis names scripts by SHA-1; nothing depends on its strength.
        self.sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()

    @classmethod
    def load(cls, folder: Path, name: str) -> Script:
        """Read ``<name>.lua`` from a folder."""
        return cls((folder / f"{name}.lua").read_bytes())

    def call(self, keys: tuple[bytes, ...], arguments: tuple[object, ...]) -> tuple[object, ...]:
        """Return the command that runs it."""
        if self.is_sent_whole:
            return (b"EVAL", self.text, len(keys), *keys, *arguments)
        return (b"EVALSHA", self.sha, len(keys), *keys, *arguments)

    def call_with_text(self, command: tuple[object, ...]) -> tuple[object, ...]:
        """Return a command made by `call` for a server that does not know the script."""
        return (b"EVAL", self.text, *command[2:])

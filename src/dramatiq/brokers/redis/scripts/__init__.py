"""The Lua of this broker: one operation per file."""

from __future__ import annotations

import os
from pathlib import Path

from ....redis import Script

__all__ = ["load", "load_all", "storing"]

_FOLDER = Path(__file__).parent
#: Scripts that store messages begin with the function that does.
_STORING = frozenset({"enqueue", "follow", "nack"})
#: Scripts that others of the same round trip rely on: results are stored before their messages
#: are acknowledged, or never; and nothing is leased to a worker without a heartbeat.
_PRECEDING = frozenset({"heartbeat", "keep"})


#: What is no script by itself.
_TEXTS: dict[str, bytes] = {}


def _read_all() -> dict[str, Script]:
    texts = {
        entry.name.removesuffix(".lua"): Path(entry).read_bytes()
        for entry in os.scandir(_FOLDER)
        if entry.name.endswith(".lua")
    }
    store = _TEXTS["store"] = texts.pop("store")
    return {
        name: Script(store + text if name in _STORING else text, is_sent_whole=name in _PRECEDING)
        for name, text in sorted(texts.items())
    }


#: Read with the module: later there may be no descriptor left to do it with, and processes that
#: are forked afterwards share them.
_SCRIPTS = _read_all()


def storing(name: str, text: bytes) -> Script:
    """Return a script of another part, which begins with the function that stores messages."""
    return _SCRIPTS.setdefault(name, Script(_TEXTS["store"] + text))


def load(name: str) -> Script:
    """Return the script in ``<name>.lua``."""
    return _SCRIPTS[name]


def load_all() -> dict[str, Script]:
    """Return all scripts by name."""
    return dict(_SCRIPTS)

"""The Lua of this broker: one operation per file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ....redis import Script

__all__ = ["load", "load_all"]

_FOLDER = Path(__file__).parent
#: Scripts that store messages begin with the function that does.
_STORING = frozenset({"enqueue", "follow", "nack"})
#: Scripts that others of the same round trip rely on: results are stored before their messages
#: are acknowledged, or never; and nothing is leased to a worker without a heartbeat.
_PRECEDING = frozenset({"heartbeat", "keep"})


@cache
def load(name: str) -> Script:
    """Return the script in ``<name>.lua``."""
    text = (_FOLDER / f"{name}.lua").read_bytes()
    if name in _STORING:
        text = (_FOLDER / "store.lua").read_bytes() + text
    return Script(text, is_sent_whole=name in _PRECEDING)


def load_all() -> dict[str, Script]:
    """Return all scripts by name."""
    names = {path.stem for path in _FOLDER.glob("*.lua")} - {"store"}
    return {name: load(name) for name in sorted(names)}

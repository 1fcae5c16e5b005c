"""What the main process imports before it forks workers, so that they share its memory.

Only modules of this package and installed client libraries: none of the application's code runs
here, not even where a module of it has the name of a client library. A wrong guess costs the main
process some memory, and nothing else.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import site
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

#: By broker, as its module in `dramatiq.brokers` is called: what the first connection imports.
ON_CONNECTING = {
    "redis": ("email.parser", "encodings.idna", "hmac", "secrets"),
    "sqlite": (),
    "postgres": ("encodings.idna",),
}

#: The client library of those that need one.
CLIENTS = {"redis": "redis", "postgres": "psycopg"}

#: The same by the scheme of a broker's URL.
SCHEMES = {
    "redis": "redis",
    "rediss": "redis",
    "sqlite": "sqlite",
    "postgresql": "postgres",
    "postgres": "postgres",
}


def preload(args: argparse.Namespace) -> None:
    """Import what workers are going to need, and keep the collector off it."""
    text = _text_of(args.broker.partition(":")[0]).lower()
    name = _likely_broker(text)
    modules = ["ctypes"]  # by which a worker asks to be told of the main process's death
    if name is not None:
        modules += [f"dramatiq.brokers.{name}", *ON_CONNECTING[name]]
    if name == "redis" or "async def" in text:
        # That client imports asyncio in any case.
        modules.append("dramatiq.worker.loop")
    # Whatever is wrong with one, the worker that needs it will say so.
    with suppress(Exception):
        for module in modules:
            importlib.import_module(module)
    # A collection writes into every object that it looks at, and what is written to is not shared.
    gc.freeze()


def _likely_broker(text: str) -> str | None:
    """Guess the module of the broker from the environment and the text of the user's module."""
    url = os.environ.get("DRAMATIQ_BROKER_URL")
    if url:
        name = SCHEMES.get(url.partition(":")[0])
    else:
        # Without a hint as a broker is chosen where none is set.
        name = next((each for each in ON_CONNECTING if each in text), "redis")
    return None if name in CLIENTS and not _is_installed(CLIENTS[name]) else name


def _text_of(module_name: str) -> str:
    """Return the source of a module without importing it or what it is in; empty if not found."""
    place = Path(*module_name.split("."))
    for folder in sys.path:
        for path in (folder / place.with_suffix(".py"), folder / place / "__init__.py"):
            with suppress(OSError):
                return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _is_installed(library: str) -> bool:
    """Tell whether that name is an installed package's, and not a module's of the application."""
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(library)
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parents[1]) in site.getsitepackages()
    return False

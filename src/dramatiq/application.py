"""How a process that runs beside the workers gets at the application, which only they import.

Set by the command line before it calls a fork function; elsewhere there is nothing to get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["load_broker", "set_loader"]

_loader: Callable[[], Any] | None = None


def set_loader(loader: Callable[[], Any] | None) -> None:
    """Say how to import the application of this process; it returns the broker."""
    global _loader  # noqa: PLW0603 (a process has one application)
    _loader = loader


def load_broker() -> Any:
    """Import the application and return its broker; None if this process knows of none.

    Main thread only: an application may set signal handlers.

    Raises:
        Exception: Whatever the application raises while it is imported.
    """
    return None if _loader is None else _loader()

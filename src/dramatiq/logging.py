"""Loggers by module and class; configuring them is left to the application."""

from __future__ import annotations

import logging

__all__ = ["get_logger"]


def get_logger(module: str, name: str | type | None = None) -> logging.Logger:
    """Return the standard logger named ``module`` or ``module.name``.

    Args:
        module: First part of the logger's name.
        name: Second part, if any. Of a class its ``__name__`` is taken.
    """
    if name is None:
        return logging.getLogger(module)
    if isinstance(name, type):
        name = name.__name__
    return logging.getLogger(f"{module}.{name}")

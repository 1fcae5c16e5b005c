"""Parts that need a client library: imported when they are first asked for.

Importing the package that offers them costs nothing and warns of nothing.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

__all__ = ["import_optional"]


def import_optional(package: str, name: str, parts: dict[str, tuple[str, str | None]]) -> Any:
    """Return the attribute ``name`` of ``package``; to be called by its ``__getattr__``.

    Args:
        package: The package that is asked.
        name: What it is asked for.
        parts: Submodule of each optional name, and the extra that installs what the submodule
            needs; None where the standard library is enough.

    Raises:
        AttributeError: If the name is unknown, or what it needs is not installed.
    """
    if name not in parts:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    submodule, extra = parts[name]
    try:
        module = importlib.import_module(f"{package}.{submodule}")
    except ModuleNotFoundError as error:
        hint = f"It needs an extra: pip install 'dramatiq[{extra}]'." if extra else str(error)
        warnings.warn(f"{name} is not available. {hint}", ImportWarning, stacklevel=3)
        raise AttributeError(
            f"module {package!r} has no attribute {name!r}: {error}. {hint}"
        ) from error
    return getattr(module, name)

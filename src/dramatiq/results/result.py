"""How values and exceptions are stored: values bare, exceptions in an envelope."""

from __future__ import annotations

from typing import Any

from .errors import ResultFailure

__all__ = ["unwrap_result", "wrap_exception", "wrap_result"]

#: Marks the envelope. Part of the stored format, so it never changes.
_ENVELOPE_TYPE = "dramatiq.results.Result"


def wrap_result(result: Any) -> Any:
    """Return what to store for a value: the value itself."""
    return result


def wrap_exception(exception: BaseException) -> dict[str, Any]:
    """Return what to store for an exception: its type and text, not the object."""
    return {
        "__t": _ENVELOPE_TYPE,
        "exn": {"type": type(exception).__name__, "msg": str(exception)},
    }


def unwrap_result(res: Any) -> Any:
    """Return the value that was stored; anything but the envelope is one.

    Raises:
        ResultFailure: If an exception was stored.
    """
    if not isinstance(res, dict) or res.get("__t") != _ENVELOPE_TYPE:
        return res
    exception = res.get("exn")
    if not isinstance(exception, dict):
        return res
    name, text = exception.get("type", ""), exception.get("msg", "")
    raise ResultFailure(f"actor raised {name}: {text}", name, text)

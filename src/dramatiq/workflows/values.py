"""How results and failures of children are written."""

from __future__ import annotations

from typing import Any

from .nodes import encode
from .policies import FAIL, IGNORE
from .rules import DONE, FAILED, TOLERATED, UNPIPED

__all__ = ["failure_value", "success_value"]


def failure_value(policy: str, error: dict[str, Any]) -> bytes:
    """Return how a failure arrives, according to the policy of what failed."""
    if policy == FAIL:
        return FAILED + encode(error)
    return TOLERATED + encode(None if policy == IGNORE else {"error": error})


def success_value(result: Any, *, is_piped: bool = True) -> bytes:
    """Return how a result arrives."""
    return (DONE if is_piped else UNPIPED) + encode(result)

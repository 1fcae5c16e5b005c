"""What becomes of what a message is part of if it fails. Light: every application imports it."""

from __future__ import annotations

from typing import Any

__all__ = [
    "FAIL",
    "IGNORE",
    "OPTION",
    "POLICIES",
    "POLICY_OPTION",
    "VALUE",
    "check_policy",
    "has_policy",
]

#: The option in which a message carries its place: workflow, frame, index, and its policy.
OPTION = "workflow_place"
#: The option in which a message carries what becomes of its workflow if it fails.
POLICY_OPTION = "workflow_failure"
#: If it fails, what it is part of fails.
FAIL = "fail"
#: If it fails, its result is None.
IGNORE = "ignore"
#: If it fails, its result is the error.
VALUE = "value"
POLICIES = (FAIL, IGNORE, VALUE)


def check_policy(policy: str) -> str:
    """Return a policy.

    Raises:
        ValueError: If there is no such policy.
    """
    if policy not in POLICIES:
        raise ValueError(
            f"What becomes of a failure is one of {FAIL!r}, {IGNORE!r} and {VALUE!r}, "
            f"not {policy!r}."
        )
    return policy


def has_policy(message: Any) -> bool:
    """Tell whether a message says what becomes of its failure."""
    return POLICY_OPTION in message.options

"""Who may do what: verbs, the sets of them that are given names, and visitors who have them."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = [
    "ALL",
    "NONE",
    "OPERATOR",
    "READ_ONLY",
    "UNSET",
    "VERBS",
    "Auth",
    "Denied",
    "Visitor",
    "as_visitor",
    "basic_auth",
]

#: Everything that can be allowed. Whoever is let in may see counts and names without any verb.
VERBS = frozenset(
    {
        "view_args",
        "view_results",
        "retry",
        "cancel",
        "delete",
        "enqueue",
        "edit",
        "pause_queue",
        "purge_queue",
        "edit_schedule",
        "run_schedule",
        "control_workers",
        "cancel_workflow",
        "retry_workflow",
    }
)
#: Look at counts and names alone.
NONE: frozenset[str] = frozenset()
#: Look at everything, change nothing.
READ_ONLY = frozenset({"view_args", "view_results"})
#: Keep things going: whatever drops nothing.
OPERATOR = VERBS - {"delete", "purge_queue", "edit", "edit_schedule"}
ALL = VERBS

#: Stands for an ``auth`` that was not given, which lets nobody in.
UNSET: Any = object()


@dataclasses.dataclass(frozen=True)
class Visitor:
    """Somebody who was let in.

    Args:
        name: For the audit log.
        verbs: What they may do: one of the sets here, or one of your own.

    Raises:
        ValueError: If a verb does not exist.
    """

    name: str
    verbs: frozenset[str] = ALL

    def __post_init__(self) -> None:
        unknown = sorted(set(self.verbs) - VERBS)
        if unknown:
            known = ", ".join(sorted(VERBS))
            raise ValueError(f"There is no verb {unknown[0]!r}. There are: {known}.")

    def may(self, verb: str) -> bool:
        """Tell whether they may do something."""
        return verb in self.verbs


@dataclasses.dataclass(frozen=True)
class Denied:
    """What an ``auth`` may return in place of None to have the browser ask for a password."""

    realm: str


#: Gets the request and returns the visitor, their name (they may do everything then), or None to
#: turn them away. May be a coroutine function.
Auth = Callable[
    ["Request"], "Visitor | str | Denied | Awaitable[Visitor | str | Denied | None] | None"
]


def as_visitor(answer: object) -> Visitor | Denied | None:
    """Return what an ``auth`` meant.

    Raises:
        TypeError: If it returned something else: True says nothing about who it is.
    """
    if answer is None or isinstance(answer, Visitor | Denied):
        return answer
    if isinstance(answer, str) and answer:
        return Visitor(answer)
    raise TypeError(
        f"The dashboard's auth returned {answer!r}. Return a Visitor, the visitor's name, or None "
        "to turn them away."
    )


def basic_auth(
    passwords: Mapping[str, str],
    *,
    verbs: frozenset[str] | Mapping[str, frozenset[str]] = ALL,
    realm: str = "dramatiq",
) -> Auth:
    """Return an ``auth`` that asks for name and password, as HTTP has it. Use it behind TLS.

    Args:
        passwords: The password of each name.
        verbs: What all of them may do, or each of them; who is not in it may do nothing.
        realm: What the browser shows.
    """

    def authenticate(request: Request) -> Visitor | Denied:
        name, password = _credentials(request.headers.get("authorization", ""))
        expected = passwords.get(name, "")
        # Compared in any case, so that time does not tell which names exist.
        is_right = hmac.compare_digest(password.encode(), expected.encode())
        if not is_right or not expected:
            return Denied(realm)
        allowed = verbs.get(name, NONE) if isinstance(verbs, Mapping) else verbs
        return Visitor(name, allowed)

    return authenticate


def _credentials(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password

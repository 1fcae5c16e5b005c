"""What keeps strangers and other people's pages out: closed by default, origins, headers."""

from __future__ import annotations

import hmac
import inspect
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse

from .access import ALL, UNSET, Denied, Visitor, as_visitor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from .access import Auth

__all__ = ["CSRF_COOKIE", "CSRF_FIELD", "HEADERS", "admit", "is_foreign", "new_token"]

CSRF_COOKIE = "dramatiq_csrf"
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "x-csrf-token"

#: Sent with every answer. Nothing is inline, so nothing inline may run or style.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With no referrer at all, browsers would not tell the origin of a form either.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

CLOSED = """\
This dashboard is closed, because it was not told who may see it. Tell it where it is made:

    def auth(request):
        return "ada" if request.headers.get("x-user") == "ada" else None
    app = DashboardApp(broker, auth=auth)

auth gets each request and returns the visitor's name, or None to turn them away. If something in
front of it already asks people who they are, say so: DashboardApp(broker, auth=None).
"""
TURNED_AWAY = "You may not see this dashboard: its auth turned you away.\n"
FOREIGN = (
    "Nothing was done: this request does not come from a page of the dashboard. Reload the page "
    "and try again. Programs send their own token twice, as cookie dramatiq_csrf and as header "
    "X-CSRF-Token.\n"
)


async def admit(request: Request, auth: Auth | None) -> Visitor | Response:
    """Return who sent a request, or the answer that turns them away."""
    if auth is UNSET:
        return PlainTextResponse(CLOSED, 403)
    if auth is None:
        return Visitor("anybody", ALL)
    answer: Any = auth(request)
    if inspect.isawaitable(answer):
        answer = await answer
    visitor = as_visitor(answer)
    if isinstance(visitor, Denied):
        challenge = {"WWW-Authenticate": f'Basic realm="{visitor.realm}", charset="UTF-8"'}
        return PlainTextResponse("Who are you?\n", 401, challenge)
    return PlainTextResponse(TURNED_AWAY, 403) if visitor is None else visitor


def is_foreign(request: Request, form: Mapping[str, str]) -> bool:
    """Tell whether a request that changes something was made by somebody else's page.

    Browsers say so themselves in `Sec-Fetch-Site`, older ones by `Origin`. Where neither is sent,
    the page's own token must have come with the form.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = request.headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc != request.headers.get("host", "")
    expected = request.cookies.get(CSRF_COOKIE, "")
    given = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD, "")
    return not expected or not hmac.compare_digest(given.encode(), expected.encode())


def new_token() -> str:
    """Return a token for the forms of one browser."""
    return secrets.token_urlsafe(24)

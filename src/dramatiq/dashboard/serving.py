"""The dashboard alone: on loopback, for whoever has the link that the terminal shows."""

from __future__ import annotations

import hmac
import os
import secrets
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse

from .access import Visitor
from .app import DashboardApp

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from ..broker import Broker

__all__ = ["SESSION_COOKIE", "OneTimeLink", "is_loopback", "serve"]

SESSION_COOKIE = "dramatiq_session"
SPENT = """\
This link has been used, or is none of this dashboard. Take the newest link from the terminal that
runs it: each works once.
"""


class OneTimeLink:
    """Lets in whoever follows the link of the terminal, once; they keep a cookie then.

    Args:
        base_url: Where the dashboard is served.
        tell: Called with each new link.
        verbs: What whoever has it may do.
    """

    def __init__(self, base_url: str, tell: Callable[[str], object], verbs: frozenset[str]) -> None:
        self._base_url = base_url
        self._tell = tell
        self._verbs = verbs
        self._session = secrets.token_urlsafe(32)
        self._token = ""
        self.app: DashboardApp | None = None

    def auth(self, request: Request) -> Visitor | None:
        """Return the visitor if they have the cookie."""
        given = request.cookies.get(SESSION_COOKIE, "")
        if hmac.compare_digest(given.encode(), self._session.encode()):
            return Visitor("local", self._verbs)
        return None

    def renew(self) -> None:
        """Make another link, and tell it."""
        self._token = secrets.token_urlsafe(24)
        self._tell(f"{self._base_url}/login?token={self._token}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] == "/login":
            await self._log_in(scope)(scope, receive, send)
        elif self.app is not None:
            await self.app(scope, receive, send)

    def _log_in(self, scope: Scope) -> Any:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not self._token or not hmac.compare_digest(given.encode(), self._token.encode()):
            return PlainTextResponse(SPENT, 403)
        self.renew()
        response = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
        response.set_cookie(SESSION_COOKIE, self._session, httponly=True, samesite="lax")
        return response


def serve(
    broker: Broker,
    *,
    host: str,
    port: int,
    verbs: frozenset[str],
    tell: Callable[[str], object],
    until: int | None = None,
    **options: Any,
) -> None:
    """Serve the dashboard until it is interrupted.

    Args:
        broker: The broker.
        host: The address to listen on.
        port: The port.
        verbs: What visitors may do.
        tell: Called with each link.
        until: A file descriptor; serving ends when whoever has its other end is gone.
        options: See `DashboardApp`.

    Raises:
        OSError: If the address cannot be had.
    """
    import uvicorn

    shown = f"[{host}]" if ":" in host else host
    link = OneTimeLink(f"http://{shown}:{port}", tell, verbs)
    options.setdefault("hide_args", None if is_loopback(host) else True)
    link.app = DashboardApp(broker, auth=link.auth, **options)
    config = uvicorn.Config(
        link, host=host, port=port, log_level="warning", access_log=False, lifespan="off",
        server_header=False,
    )  # fmt: skip
    # First: a link that leads nowhere is told to nobody.
    listener = config.bind_socket()
    listener.listen()
    link.renew()
    server = uvicorn.Server(config)
    if until is not None:
        threading.Thread(target=_end_with, args=(until, server), daemon=True).start()
    with listener:
        server.run(sockets=[listener])


def _end_with(until: int, server: uvicorn.Server) -> None:
    while os.read(until, 4096):
        pass
    server.should_exit = True


def is_loopback(host: str) -> bool:
    """Tell whether an address cannot be reached from other machines."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

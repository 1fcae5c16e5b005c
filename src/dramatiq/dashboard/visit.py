"""One request to one page: who asks, with what settings, and how the answer is made."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from starlette.responses import HTMLResponse, RedirectResponse, Response

from ..common import current_millis
from .acting import Actions
from .guarding import CSRF_COOKIE, new_token
from .rendering import render

if TYPE_CHECKING:
    from starlette.requests import Request

    from .access import Visitor
    from .desk import Desk

__all__ = ["DENSITIES", "REFRESHES", "SETTINGS_COOKIE", "THEMES", "Settings", "Visit", "root_of"]

SETTINGS_COOKIE = "dramatiq_settings"
FLASH_COOKIE = "dramatiq_flash"
#: Asks for the part of a page that changes, instead of all of it.
FRAGMENT_HEADER = "x-fragment"

THEMES = ("auto", "light", "dark")
DENSITIES = ("comfortable", "compact")
#: Seconds between two looks; 0 for none.
REFRESHES = (0, 2, 5, 15, 60)
YEAR_S = 365 * 86_400
#: Characters of a note that is shown on the next page.
FLASH_WIDTH = 300


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one browser wants pages to look like."""

    theme: str = "auto"
    density: str = "comfortable"
    refresh: int = 5

    @classmethod
    def read(cls, text: str) -> Settings:
        """Return the settings in a cookie; the defaults in place of what makes no sense."""
        theme, density, refresh, *_ = [*text.split("."), "", "", ""]
        default = cls()
        return cls(
            theme if theme in THEMES else default.theme,
            density if density in DENSITIES else default.density,
            int(refresh) if refresh in map(str, REFRESHES) else default.refresh,
        )

    def __str__(self) -> str:
        return f"{self.theme}.{self.density}.{self.refresh}"


class Visit:
    """One request.

    Args:
        request: The request.
        desk: What pages work with.
        visitor: Who asks.
        body: The form that came with it.
    """

    def __init__(self, request: Request, desk: Desk, visitor: Visitor, body: bytes = b"") -> None:
        self.request = request
        self.desk = desk
        self.visitor = visitor
        self.query = dict(request.query_params)
        self._form = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        self.form = dict(self._form)
        self.now = current_millis()
        self.settings = Settings.read(request.cookies.get(SETTINGS_COOKIE, ""))
        self.flash = unquote(request.cookies.get(FLASH_COOKIE, ""))[:FLASH_WIDTH]
        self.csrf_token = request.cookies.get(CSRF_COOKIE) or new_token()

    # -- what it may

    def may(self, verb: str) -> bool:
        """Tell whether the visitor may do something."""
        return self.visitor.may(verb)

    @cached_property
    def sees_args(self) -> bool:
        """Whether the visitor may see arguments."""
        hides = self.desk.hide_args
        if hides is None:
            hides = is_public(self.request)
        return not hides and self.may("view_args")

    @property
    def actions(self) -> Actions:
        """What the visitor can do."""
        return Actions(self.desk, self.visitor)

    # -- where it is

    @property
    def path(self) -> str:
        """The path within the dashboard."""
        path: str = self.request.scope["path"]
        root = self.request.scope.get("root_path", "")
        return path[len(root) :] if root and path.startswith(root) else path

    @property
    def here(self) -> str:
        """Path and query within the dashboard."""
        query = self.request.url.query
        return f"{self.path}?{query}" if query else self.path

    def url(self, path: str, **query: Any) -> str:
        """Return the URL of a page, wherever the dashboard is mounted."""
        given = {name: value for name, value in query.items() if value not in {None, ""}}
        return root_of(self.request) + path + (f"?{urlencode(given)}" if given else "")

    def here_but(self, **query: Any) -> str:
        """Return the URL of this page with other values in its query."""
        return self.url(quote(self.path), **{**self.query, **query})

    def chosen(self, name: str) -> list[str]:
        """Return all values of a field of the form."""
        return [value for key, value in self._form if key == name]

    # -- answers

    def render(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page, or the part of it that changes if that is what was asked for."""
        is_fragment = FRAGMENT_HEADER in self.request.headers
        html = render(template, "live" if is_fragment else None, visit=self, **values)
        body = html.encode("utf-8", "replace")
        headers = {"Cache-Control": "no-store", "Vary": FRAGMENT_HEADER}
        if self.request.method == "GET" and status == 200:
            headers["ETag"] = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
            if self.request.headers.get("if-none-match") == headers["ETag"]:
                return Response(status_code=304, headers=headers)
        response = HTMLResponse(body, status, headers)
        if self.request.cookies.get(CSRF_COOKIE) != self.csrf_token:
            self.set_cookie(response, CSRF_COOKIE, self.csrf_token)
        if self.flash and not is_fragment:
            response.delete_cookie(FLASH_COOKIE, path=self._cookie_path)
        return response

    def go(self, path: str, note: str = "") -> Response:
        """Send the browser to another page, where a note is shown."""
        response = RedirectResponse(root_of(self.request) + path, 303)
        if note:
            self.set_cookie(response, FLASH_COOKIE, quote(note[:FLASH_WIDTH]), max_age=60)
        return response

    def go_back(self, default: str, note: str = "") -> Response:
        """Send the browser to where its form says it came from, if that is a page of ours."""
        path = self.form.get("next", "")
        is_ours = path.startswith("/") and not path.startswith("//")
        is_ours = is_ours and "\\" not in path and path.isprintable()
        return self.go(quote(path, safe="/?&=%+:;,._~-") if is_ours else default, note)

    def set_cookie(self, response: Response, name: str, value: str, **options: Any) -> None:
        """Set a cookie for this dashboard alone."""
        is_secure = self.request.url.scheme == "https"
        response.set_cookie(
            name, value, path=self._cookie_path, httponly=True, samesite="lax", secure=is_secure,
            **options,
        )  # fmt: skip

    @property
    def _cookie_path(self) -> str:
        return root_of(self.request) or "/"


def root_of(request: Request) -> str:
    """Return where the dashboard is mounted, without a slash at the end."""
    return quote(str(request.scope.get("root_path", "")).rstrip("/"))


def is_public(request: Request) -> bool:
    """Tell whether a request may have come from another machine."""
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return True
    host, *_ = request.scope.get("server") or ("",)
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True  # nobody knows

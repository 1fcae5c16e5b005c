"""The ASGI application: from a request to the view that answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..broker import get_broker
from ..errors import BrokerConnectionError, BrokerError
from ..inspection import InspectionNotSupported
from ..logging import get_logger
from . import api, views
from .access import UNSET, Visitor
from .acting import Forbidden, Unconfirmed
from .desk import Desk, explain
from .guarding import FOREIGN, HEADERS, admit, is_foreign
from .redaction import SECRET_NAMES, Redactor
from .rendering import STATIC
from .visit import Visit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from ..broker import Broker
    from .access import Auth
    from .redaction import Redact

__all__ = ["DashboardApp"]

#: Most bytes of a form: a page of chosen messages has some kilobytes.
MOST_BYTES = 256 * 1024
#: What each kind of error answers with.
STATUSES: dict[type[Exception], int] = {
    Forbidden: 403,
    Unconfirmed: 409,
    ValueError: 400,
    InspectionNotSupported: 501,
    BrokerConnectionError: 503,
    BrokerError: 500,
}


class DashboardApp:
    """The dashboard, as an ASGI application. Mount it in FastAPI, Starlette, or anywhere else.

    It is closed until it is told who may see it.

    Args:
        broker: The broker; by default the global one, when it is first needed.
        auth: Gets each request and returns a `Visitor`, a name (who may do everything), or None to
            turn them away. None lets everybody in: for where something in front already asks.
        title: The name of the application.
        environment: Such as ``production``: shown beside the title, so that nobody acts on the
            wrong one.
        hide_args: Whether arguments are hidden from everybody; by default, from those who are not
            on this machine.
        secret_names: Parts of the names of arguments and options whose values are never shown.
        redact: Called for each argument with the actor's name, the argument's and its value;
            returns what to show.
    """

    def __init__(
        self,
        broker: Broker | None = None,
        *,
        auth: Auth | None = UNSET,
        title: str = "dramatiq",
        environment: str = "",
        hide_args: bool | None = None,
        secret_names: Collection[str] = SECRET_NAMES,
        redact: Redact | None = None,
    ) -> None:
        self.logger = get_logger("dramatiq.dashboard", type(self))
        self.auth = auth
        self._broker = broker
        self._desk: Desk | None = None
        self._shown = (secret_names, redact, title, environment, hide_args)
        self._app = Starlette(
            routes=[
                Route("/healthz", self._health),
                Mount("/static", StaticFiles(directory=STATIC), name="static"),
                *(self._route(page, is_api=False) for page in views.pages()),
                *(self._route(page, is_api=True) for page in api.PAGES),
            ],
            exception_handlers={404: self._not_found},
        )

    @property
    def desk(self) -> Desk:
        """What pages work with."""
        if self._desk is None:
            names, redact, title, environment, hide_args = self._shown
            broker = self._broker or get_broker()
            redactor = Redactor(broker, names, redact)
            tabs = tuple(views.tabs())
            self._desk = Desk(broker, redactor, title, environment, hide_args, tabs)
        return self._desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.lower().encode(), value.encode()) for name, value in _headers()]
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        await self._app(scope, receive, send_guarded)

    def _route(self, page: views.Page, *, is_api: bool) -> Route:
        async def endpoint(request: Request) -> Response:
            visitor = await admit(request, self.auth)
            if not isinstance(visitor, Visitor):
                return visitor
            body = await _read(request) if page.method == "POST" else b""
            if body is None:
                return PlainTextResponse("This form is too large.\n", 413)
            visit = Visit(request, self.desk, visitor, body)
            if page.method == "POST" and is_foreign(request, visit.form):
                return PlainTextResponse(FOREIGN, 403)
            # Brokers are asked by blocking calls.
            return await run_in_threadpool(self._answer, page.view, visit, is_api)

        methods = ["GET", "HEAD"] if page.method == "GET" else [page.method]
        return Route(page.path, endpoint, methods=methods)

    def _answer(self, view: Callable[[Visit], Response], visit: Visit, is_api: bool) -> Response:
        try:
            return view(visit)
        except tuple(STATUSES) as error:
            status = next(STATUSES[each] for each in type(error).__mro__ if each in STATUSES)
            if status == 503:
                self.logger.warning("The broker cannot be reached: %s", error)
            text = explain(error)
            if is_api:
                return JSONResponse({"error": text}, status)
            return visit.render("problem.html", status=status, code=status, text=text)

    async def _health(self, request: Request) -> Response:
        """Answer 200 if the broker answers; anybody may ask."""
        try:
            await run_in_threadpool(self.desk.inspection.queue, "default", count_limit=1)
        except BrokerError:
            return PlainTextResponse("The broker cannot be reached.\n", 503)
        return PlainTextResponse("ok\n")

    async def _not_found(self, request: Request, error: Any) -> Response:
        visitor = await admit(request, self.auth)
        if not isinstance(visitor, Visitor):
            return visitor
        text = "There is no such page."
        visit = Visit(request, self.desk, visitor)
        if visit.path.startswith("/api/"):
            return JSONResponse({"error": text}, 404)
        return visit.render("problem.html", status=404, code=404, text=text)


async def _read(request: Request) -> bytes | None:
    """Return the body of a request; None if it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return body


def _headers() -> list[tuple[str, str]]:
    return list(HEADERS.items())

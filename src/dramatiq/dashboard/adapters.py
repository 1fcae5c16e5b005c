"""The dashboard in hosts that do not speak ASGI: WSGI servers and frameworks, and Django's URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from .app import DashboardApp

__all__ = ["DJANGO_REQUEST", "django_urls", "make_wsgi_app"]

#: Where an ``auth`` finds Django's request: ``request.scope[DJANGO_REQUEST]``.
DJANGO_REQUEST = "django_request"
#: Headers that WSGI names otherwise than the rest.
_PLAIN_HEADERS = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


def make_wsgi_app(app: DashboardApp) -> Any:
    """Return the dashboard as a WSGI application, to be mounted in Flask or any WSGI server.

    Raises:
        ModuleNotFoundError: If a2wsgi is not installed.
    """
    try:
        from a2wsgi import ASGIMiddleware
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "To mount the dashboard in a WSGI host, install a2wsgi: "
            "pip install 'dramatiq[dashboard]'",
            name=error.name,
        ) from error
    # It describes ASGI in more detail than Starlette, and means the same.
    return ASGIMiddleware(cast("Any", app))


def django_urls(app: DashboardApp) -> list[Any]:
    """Return URL patterns for Django: ``path("jobs/", include(django_urls(app)))``.

    The ``auth`` of the dashboard finds Django's request in ``request.scope["django_request"]``, for
    example ``lambda request: request.scope["django_request"].user.get_username() or None``.
    Django's own CSRF check is left out: the dashboard has one.
    """
    from django.urls import re_path
    from django.views.decorators.csrf import csrf_exempt

    return [re_path(r"^(?P<path>.*)$", csrf_exempt(_django_view(app)))]


def _django_view(app: DashboardApp) -> Callable[..., Any]:
    from asgiref.sync import async_to_sync
    from django.http import HttpResponse

    def view(request: Any, path: str) -> Any:
        sent = async_to_sync(_run)(app, _scope_of(request, path), request.body)
        response = HttpResponse(sent["body"], status=sent["status"])
        del response["Content-Type"]
        for name, value in sent["headers"]:
            if name == b"set-cookie":
                # Django has no other way to send several of them.
                response.cookies.load(value.decode("latin-1"))
            elif name != b"content-length":
                response[name.decode("latin-1")] = value.decode("latin-1")
        return response

    return view


async def _run(app: DashboardApp, scope: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Run one request, and return status, headers and body of the answer."""
    answer: dict[str, Any] = {"status": 500, "headers": [], "body": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.update(status=message["status"], headers=message["headers"])
        else:
            answer["body"] += message.get("body", b"")

    await app(scope, receive, send)
    return answer


def _scope_of(request: Any, path: str) -> dict[str, Any]:
    """Return a request of Django as ASGI has it."""
    full_path = request.path
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower().encode(), value.encode("latin-1"))
        for name, value in request.META.items()
        if name.startswith("HTTP_")
    ]
    headers += [
        (name.encode(), str(request.META[key]).encode("latin-1"))
        for key, name in _PLAIN_HEADERS.items()
        if request.META.get(key)
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": full_path,
        "raw_path": full_path.encode(),
        "root_path": full_path[: len(full_path) - len(path)].rstrip("/"),
        "query_string": request.META.get("QUERY_STRING", "").encode(),
        "headers": headers,
        # The name a server goes by is not where it is bound: nobody knows who can reach it.
        "server": None,
        "client": None,
        DJANGO_REQUEST: request,
    }

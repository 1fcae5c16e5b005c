"""Pages that show queues, messages, failures and workers, and act on them.

`DashboardApp` is an ASGI application that any framework can mount; `dramatiq dashboard` serves it
alone. It keeps nothing itself: all it shows and does goes through `dramatiq.Broker.inspection` and
`dramatiq.Broker.history`, so any number of replicas may run side by side.

`access` says who may do what, `guarding` keeps strangers out, `asking` fetches what pages and API
show, `acting` does what they offer, `views` are the pages, `api` is the same as JSON, `adapters`
mount it in WSGI hosts and Django, `serving` runs it alone.
"""

from __future__ import annotations

try:
    from .access import ALL, NONE, OPERATOR, READ_ONLY, Visitor, basic_auth
    from .adapters import django_urls, make_wsgi_app
    from .app import DashboardApp
except ModuleNotFoundError as error:
    if error.name not in {"starlette", "jinja2", "markupsafe", "anyio"}:
        raise
    raise ModuleNotFoundError(
        f"The dashboard needs {error.name}. Install it: pip install 'dramatiq[dashboard]'",
        name=error.name,
    ) from error

__all__ = [
    "ALL",
    "NONE",
    "OPERATOR",
    "READ_ONLY",
    "DashboardApp",
    "Visitor",
    "basic_auth",
    "django_urls",
    "make_wsgi_app",
]

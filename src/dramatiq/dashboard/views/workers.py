"""Worker processes, and what each of their threads runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import asking
from ..desk import ask
from .page import Page, Tab

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["PAGES", "TAB"]


def list_all(visit: Visit) -> Response:
    """Show all worker processes."""
    workers, why = ask(lambda: asking.workers(visit.desk), [])
    return visit.render("workers.html", workers=workers, why=why)


PAGES = [Page("/workers", list_all)]
TAB = Tab("Workers", "/workers", "workers")

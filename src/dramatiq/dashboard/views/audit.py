"""What was done through the dashboard, and by whom."""

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
    """Show the log."""
    entries, why = ask(lambda: asking.audit(visit.desk), [])
    return visit.render("audit.html", entries=entries, why=why)


PAGES = [Page("/audit", list_all)]
TAB = Tab("Audit log", "/audit", "audit")

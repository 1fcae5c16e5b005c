"""What this browser wants pages to look like, kept in a cookie of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..access import VERBS
from ..visit import DENSITIES, REFRESHES, SETTINGS_COOKIE, THEMES, YEAR_S, Settings
from .page import Page, Tab

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["PAGES", "TAB"]


def show(visit: Visit) -> Response:
    """Show the settings."""
    return visit.render(
        "settings.html",
        themes=THEMES,
        densities=DENSITIES,
        refreshes=REFRESHES,
        verbs=sorted(VERBS),
        broker_name=type(visit.desk.broker).__name__,
    )


def save(visit: Visit) -> Response:
    """Keep the settings."""
    names = ("theme", "density", "refresh")
    settings = Settings.read(".".join(visit.form.get(name, "") for name in names))
    response = visit.go("/settings", "The settings of this browser are saved.")
    visit.set_cookie(response, SETTINGS_COOKIE, str(settings), max_age=YEAR_S)
    return response


PAGES = [Page("/settings", show), Page("/settings", save, "POST")]
TAB = Tab("Settings", "/settings", "settings")

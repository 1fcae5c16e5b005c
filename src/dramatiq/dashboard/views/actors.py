"""Actors: how long they take, and how often they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import asking
from ..desk import HISTORY_IS_OFF
from .page import Page, Tab

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["PAGES", "TAB"]


def list_all(visit: Visit) -> Response:
    """Show all actors."""
    return visit.render(
        "actors.html",
        found=asking.actors(visit.desk),
        is_history_on=visit.desk.history is not None,
        history_is_off=HISTORY_IS_OFF,
        attempts=asking.ATTEMPTS_PER_ACTOR,
    )


PAGES = [Page("/actors", list_all)]
TAB = Tab("Actors", "/actors", "actors")

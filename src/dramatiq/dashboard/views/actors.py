"""Actors: how long they take, and how often they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import asking
from ..charting import bars_of
from ..charts import draw_throughput
from ..desk import HISTORY_IS_OFF
from ..messages import latest_of
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


def show(visit: Visit) -> Response:
    """Show one actor."""
    name = visit.request.path_params["name"]
    actor = asking.actor(visit.desk, name)
    minutes = asking.throughput(visit.desk, actor_name=name)
    bars = None if minutes is None else bars_of(minutes)
    return visit.render(
        "actor.html",
        status=404 if actor is None else 200,
        name=name,
        actor=actor,
        bars=bars,
        chart=None if bars is None else draw_throughput(bars),
        attempts=asking.ATTEMPTS_PER_ACTOR,
        history_is_off=HISTORY_IS_OFF,
        **latest_of(visit.desk, name, sees_args=visit.sees_args),
    )


PAGES = [Page("/actors", list_all), Page("/actors/{name:path}", show)]
TAB = Tab("Actors", "/actors", "actors")

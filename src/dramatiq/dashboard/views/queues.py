"""Queues: how full, for how long, and whether workers take from them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...inspection import Selection, State
from .. import asking
from ..acting import TYPED_FROM, Confirmation
from ..charting import bars_of
from ..charts import draw_throughput
from ..desk import HISTORY_IS_OFF, ask
from ..messages import message_page
from .page import Page, Tab

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["PAGES", "TAB"]

#: Messages of each state that are shown of a queue.
HEADS = 5
#: What can be purged.
PURGEABLE = (State.READY, State.DELAYED, State.DEAD)


def list_all(visit: Visit) -> Response:
    """Show all queues."""
    queues, why = ask(lambda: asking.queues(visit.desk), [])
    return visit.render(
        "queues.html", queues=queues, why=why, is_history_on=visit.desk.history is not None
    )


def show(visit: Visit) -> Response:
    """Show one queue."""
    name = visit.request.path_params["name"]
    queue = asking.queue(visit.desk, name)
    minutes = asking.throughput(visit.desk, queue["name"])
    bars = None if minutes is None else bars_of(minutes)
    return visit.render(
        "queue.html",
        queue=queue,
        bars=bars,
        chart=None if bars is None else draw_throughput(bars),
        heads=_heads(visit, queue["name"]),
        history_is_off=HISTORY_IS_OFF,
    )


def _heads(visit: Visit, name: str) -> dict[str, list[object]]:
    """Return the first messages of each state, as far as the broker can show them."""
    heads: dict[str, list[object]] = {}
    for state in State:
        question = partial(
            message_page, visit.desk, state, Selection(name), None,
            sees_args=visit.sees_args, limit=HEADS,
        )  # fmt: skip
        page, _ = ask(question, {"items": []})
        heads[state.value] = page["items"]
    return heads


def pause(visit: Visit) -> Response:
    """Pause a queue."""
    name = visit.request.path_params["name"]
    visit.actions.set_paused(name, is_paused=True)
    return visit.go_back("/queues", f"Queue {name} is paused: workers take nothing more from it.")


def resume(visit: Visit) -> Response:
    """Resume a queue."""
    name = visit.request.path_params["name"]
    visit.actions.set_paused(name, is_paused=False)
    return visit.go_back("/queues", f"Queue {name} is resumed.")


def ask_to_purge(visit: Visit) -> Response:
    """Tell what a purge would drop."""
    visit.actions.require("purge")
    queue = asking.queue(visit.desk, visit.request.path_params["name"])
    wanted = {*visit.request.query_params.getlist("state")} or {State.READY.value}
    states = [state for state in PURGEABLE if state.value in wanted]
    count = sum(queue[state.value] for state in states)
    return visit.render(
        "purge.html", queue=queue, states=states, count=count, typed_from=TYPED_FROM,
        choices=PURGEABLE,
    )  # fmt: skip


def purge(visit: Visit) -> Response:
    """Drop messages of a queue."""
    name = visit.request.path_params["name"]
    wanted = visit.chosen("state")
    states = [state for state in PURGEABLE if state.value in wanted]
    count = visit.actions.purge(name, states, Confirmation.read(visit.form))
    return visit.go(f"/queues/{name}", f"{count:,} messages of queue {name} were dropped.")


PAGES = [
    Page("/queues", list_all),
    Page("/queues/{name}", show),
    Page("/queues/{name}/pause", pause, "POST"),
    Page("/queues/{name}/resume", resume, "POST"),
    Page("/queues/{name}/purge", ask_to_purge),
    Page("/queues/{name}/purge", purge, "POST"),
]
TAB = Tab("Queues", "/queues", "queues")

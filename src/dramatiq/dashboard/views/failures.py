"""Dead letters by actor and kind of error, and acting on many of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import asking
from ..acting import BULK_LIMIT, TYPED_FROM, Confirmation, describe
from ..desk import ask
from ..messages import selection_of
from .page import Page, Tab

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["PAGES", "TAB"]

ACTIONS = ("requeue", "delete")
#: What a filter may name.
FILTERS = ("queue", "actor", "error", "q", "until")


def list_groups(visit: Visit) -> Response:
    """Show the groups."""
    nothing = {"groups": [], "looked_at": 0, "is_complete": True, "until": 0}
    selection = selection_of({**visit.query, "until": ""})
    found, why = ask(lambda: asking.failures(visit.desk, selection), nothing)
    queues, _ = ask(lambda: visit.desk.inspection.queues(count_limit=1), [])
    history = visit.desk.history
    return visit.render(
        "failures.html",
        found=found,
        why=why,
        queue_names=[each.name for each in queues],
        raised=None if history is None else history.failures(limit=50),
        filters={name: visit.query.get(name, "") for name in FILTERS},
    )


def confirm(visit: Visit) -> Response:
    """Tell how many dead letters a filter means before anything is done to them."""
    action = _action(visit.query)
    visit.actions.require(action)
    selection = selection_of(visit.query)
    if selection.until is None:
        raise ValueError("Say until when: what dies from now on is not meant.")
    counted = visit.desk.inspection.count_dead(selection, limit=BULK_LIMIT + 1)
    return visit.render(
        "confirm.html",
        action=action,
        count=min(counted, BULK_LIMIT),
        is_more=counted > BULK_LIMIT,
        what=describe(selection),
        until=selection.until,
        filters={name: visit.query[name] for name in FILTERS if visit.query.get(name)},
        typed_from=TYPED_FROM,
    )


def act(visit: Visit) -> Response:
    """Do what was confirmed."""
    action = _action(visit.form)
    selection = selection_of(visit.form)
    moved = visit.actions.act_on_dead(action, selection, Confirmation.read(visit.form))
    done = "requeued" if action == "requeue" else "deleted"
    return visit.go_back("/failures", f"{moved:,} {describe(selection)} {done}.")


def _action(values: dict[str, str]) -> str:
    action = values.get("action", "")
    if action not in ACTIONS:
        raise ValueError("Say what to do: requeue or delete.")
    return action


PAGES = [
    Page("/failures", list_groups),
    Page("/failures/confirm", confirm),
    Page("/failures/act", act, "POST"),
]
TAB = Tab("Failures", "/failures", "failures")

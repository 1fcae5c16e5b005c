"""Messages by state, and all about one."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...inspection import Selection, State
from ..desk import HISTORY_IS_OFF, ask
from ..messages import (
    FINISHED,
    course_of,
    find,
    finished_page,
    message_page,
    selection_of,
    show,
)
from .page import Page, Tab

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["PAGES", "TAB"]

STATES = (*(state.value for state in State), FINISHED)
#: Filters that are kept in links, beside the state.
FILTERS = ("queue", "actor", "error", "q", "id")


def list_some(visit: Visit) -> Response:
    """Show a page of messages of one state."""
    state = visit.query.get("state", State.READY.value)
    if state not in STATES:
        raise ValueError(f"There is no state {state!r}. There are: {', '.join(STATES)}.")
    wanted = visit.query.get("id", "").strip()
    if wanted:
        return visit.go(f"/messages/{quote(wanted, safe='')}")
    page, why = _page(visit, state)
    died = [each["died_at"] or 0 for each in page["items"] if state == State.DEAD.value]
    return visit.render(
        "messages.html",
        state=state,
        states=STATES,
        page=page,
        why=why,
        # What dies while this page is read is not meant by what is done from it.
        until=visit.query.get("until") or max(died, default=None),
        filters={name: visit.query.get(name, "") for name in FILTERS},
        queue_names=_queue_names(visit),
        actor_names=sorted(visit.desk.broker.actors),
    )


def _page(visit: Visit, state: str) -> tuple[dict[str, Any], str | None]:
    nothing: dict[str, Any] = {"items": [], "cursor": None, "is_cut_short": False}
    cursor = visit.query.get("cursor")
    if state == FINISHED:
        return ask(
            lambda: finished_page(visit.desk, visit.query, cursor, sees_args=visit.sees_args),
            nothing,
        )
    selection = selection_of(visit.query)
    return ask(
        lambda: message_page(
            visit.desk, State(state), selection, cursor, sees_args=visit.sees_args
        ),
        nothing,
    )


def _queue_names(visit: Visit) -> list[str]:
    queues, _ = ask(lambda: visit.desk.inspection.queues(count_limit=1), [])
    return [each.name for each in queues]


def show_one(visit: Visit) -> Response:
    """Show all that is known about one message."""
    desk = visit.desk
    message_id = visit.request.path_params["message_id"]
    queue, key = visit.query.get("queue"), visit.query.get("key")
    found, is_complete = [], True
    if queue and key:
        info, _ = ask(lambda: desk.inspection.get(queue, key), None)
        found = [] if info is None else [info]
        if info is not None and info.message is not None:
            message_id = str(info.message.message_id)  # workers are shown by key alone
    course = course_of(desk, message_id, sees_args=visit.sees_args)
    insists = visit.query.get("search") == "all"
    if not found and (insists or not course["attempts"] or not key):
        found, is_complete = find(desk, message_id, insists=insists)
    stored = [show(desk, info, sees_args=visit.sees_args) for info in found]
    is_known = bool(stored or course["attempts"])
    return visit.render(
        "message.html",
        status=200 if is_known or not is_complete else 404,
        message_id=message_id,
        stored=stored,
        course=course,
        is_complete=is_complete,
        history_is_off=HISTORY_IS_OFF,
    )


def act(visit: Visit) -> Response:
    """Requeue or delete the dead letters that were chosen."""
    only = visit.form.get("only")
    action = only.partition(" ")[0] if only else visit.form.get("action", "")
    if action not in {"requeue", "delete"}:
        raise ValueError("Say what to do: requeue or delete.")
    chosen = [only.partition(" ")[2]] if only else visit.chosen("chosen")
    by_queue: dict[str, list[str]] = defaultdict(list)
    for each in chosen:
        # No queue has a colon in its name.
        queue_name, _, key = each.partition(":")
        by_queue[queue_name].append(key)
    visit.actions.require(action)
    moved = sum(
        visit.actions.act_on_dead(action, Selection(queue_name, keys=keys))
        for queue_name, keys in by_queue.items()
    )
    done = "requeued" if action == "requeue" else "deleted"
    note = f"{moved:,} of {len(chosen):,} {done}." if chosen else "Nothing was chosen."
    if moved < len(chosen):
        note += " The others are gone, or cannot be decoded."
    return visit.go_back("/messages?state=dead", note)


PAGES = [
    Page("/messages", list_some),
    Page("/messages/act", act, "POST"),
    Page("/messages/{message_id:path}", show_one),
]
TAB = Tab("Messages", "/messages", "messages")

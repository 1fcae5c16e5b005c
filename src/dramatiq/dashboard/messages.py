"""What pages and the JSON API show of messages: lists by state, and all about one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..history import HistorySelection
from ..inspection import InspectionNotSupported, Selection, State
from .desk import HISTORY_IS_OFF, ask
from .formats import shorten
from .redaction import HIDDEN
from .workflows import place_of

if TYPE_CHECKING:
    from ..history import Attempt
    from ..inspection import MessageInfo
    from ..message import Message
    from .desk import Desk

__all__ = ["FINISHED", "PAGE", "as_python", "find", "finished_page", "message_page", "show"]

#: Messages on a page.
PAGE = 50
#: Stored messages that are looked at for a page of a filter that few match.
LOOK_AT = 2_000
#: With more messages than that, no id is looked for unless the visitor insists.
FIND_LIMIT = 5_000
#: Stands among the states for what the history knows.
FINISHED = "finished"
#: Characters of a call in a table.
CALL_WIDTH = 90
#: Attempts and children that are shown of one message.
MOST_ATTEMPTS = 50
#: Attempts that are shown of one actor, and how many are looked at for those that raised.
LATEST = 10
LATEST_LOOKED_AT = 200


def message_page(
    desk: Desk,
    state: State,
    selection: Selection,
    cursor: str | None,
    *,
    sees_args: bool,
    limit: int = PAGE,
) -> dict[str, Any]:
    """Return a page of messages of one state.

    Raises:
        ValueError: If the cursor is none.
    """
    page = desk.inspection.messages(
        state, selection, limit=limit, cursor=cursor or None, look_at=LOOK_AT
    )
    return {
        "items": [summary(desk, info, sees_args=sees_args) for info in page.items],
        "cursor": page.cursor,
        # There may be more that match: only so many were looked at.
        "is_cut_short": page.cursor is not None and len(page.items) < limit,
    }


def summary(desk: Desk, info: MessageInfo, *, sees_args: bool) -> dict[str, Any]:
    """Return what a list shows of a stored message."""
    message = info.message
    values: dict[str, Any] = {
        name: getattr(info, name)
        for name in ("key", "eta", "worker_id", "reason", "died_at", "crashes")
    }
    values |= {"queue": info.queue_name, "state": info.state.value}
    values |= {"message_id": None, "actor": None, "call": None, "sent_at": None, "retries": 0}
    if message is not None:
        retries = message.options.get("retries")
        values |= {
            "message_id": str(message.message_id),
            "actor": str(message.actor_name),
            "call": shorten(call_of(desk, message, sees_args=sees_args), CALL_WIDTH),
            "sent_at": int(message.message_timestamp),
            "retries": retries if isinstance(retries, int) else 0,
        }
    return values


def call_of(desk: Desk, message: Message[Any], *, sees_args: bool) -> str:
    """Return the call that a message stands for."""
    if not sees_args:
        return f"{message.actor_name}({'…' if message.args or message.kwargs else ''})"
    positional, named = desk.redactor.arguments(message)
    parts = [repr(value) for _, value in positional]
    parts += [f"{name}={value!r}" for name, value in named.items()]
    return f"{message.actor_name}({', '.join(parts)})"


# -- one message


def find(desk: Desk, message_id: str, *, insists: bool) -> tuple[list[MessageInfo], bool]:
    """Return what the store holds under an id, and whether it was looked for everywhere.

    Args:
        desk: Where.
        message_id: The id.
        insists: Whether to look through any number of messages.
    """
    if not insists:
        queues, _ = ask(lambda: desk.inspection.queues(count_limit=FIND_LIMIT), [])
        stored = sum(each.counts.unfinished + each.counts.dead for each in queues)
        if stored >= FIND_LIMIT:
            return [], False
    found, _ = ask(lambda: desk.inspection.find(message_id), [])
    return found, True


def show(desk: Desk, info: MessageInfo, *, sees_args: bool) -> dict[str, Any]:
    """Return all that is known about one stored message."""
    message = info.message
    values = summary(desk, info, sees_args=sees_args)
    values |= {"arguments": None, "options": {}, "traceback": None, "python": None, "payload": None}
    values["failed_at"] = values["workflow"] = None
    if message is None:
        values["payload"] = info.payload.decode(errors="backslashreplace") if sees_args else HIDDEN
        return values
    traceback = message.options.get("traceback")
    values["options"] = _jsonable(desk.redactor.options(message, may_see=sees_args))
    values["traceback"] = None if traceback is None else str(traceback)
    values["workflow"] = place_of(message)
    failed_at = message.options.get("requeue_timestamp")
    values["failed_at"] = failed_at if isinstance(failed_at, int) else None
    if sees_args:
        positional, named = desk.redactor.arguments(message)
        pairs = [*positional, *named.items()]
        # As text: a browser would not keep numbers above 2 ** 53.
        values["arguments"] = [{"name": name, "value": repr(value)} for name, value in pairs]
        values["python"] = as_python(desk, message)
    return values


def as_python(desk: Desk, message: Message[Any]) -> str:
    """Return the code that sends a message like this one; what is secret is left out of it."""
    positional, named = desk.redactor.arguments(message)
    values = [repr(value) for _, value in positional]
    values += [f"{name}={value!r}" for name, value in named.items()]
    name = message.actor_name
    if name.isidentifier():
        return f"{name}.send({', '.join(values)})"
    return f"broker.get_actor({name!r}).send({', '.join(values)})"


def _jsonable(options: dict[str, Any]) -> dict[str, str]:
    return {name: repr(value) for name, value in options.items()}


# -- what has finished


def finished_page(
    desk: Desk, filters: dict[str, str], cursor: str | None, *, sees_args: bool
) -> dict[str, Any]:
    """Return a page of attempts, the newest first; history must be on.

    Raises:
        ValueError: If the cursor is none.
    """
    selection = HistorySelection(
        actor_name=filters.get("actor") or None,
        queue_name=filters.get("queue") or None,
        message_id=filters.get("id") or None,
    )
    history = desk.history
    if history is None:
        raise InspectionNotSupported(HISTORY_IS_OFF)
    page = history.attempts(selection, limit=PAGE, cursor=int(cursor) if cursor else None)
    return {
        "items": [attempt(desk, each, sees_args=sees_args) for each in page.attempts],
        "cursor": None if page.cursor is None else str(page.cursor),
        "is_cut_short": page.cursor is not None and len(page.attempts) < PAGE,
    }


def latest_of(desk: Desk, actor_name: str, *, sees_args: bool) -> dict[str, Any]:
    """Return the latest attempts of an actor, and those of them that raised."""
    history = desk.history
    if history is None:
        return {"latest": [], "raised": []}
    page = history.attempts(HistorySelection(actor_name=actor_name), limit=LATEST_LOOKED_AT)
    found = [attempt(desk, each, sees_args=sees_args) for each in page.attempts]
    raised = [each for each in found if each["exception"] is not None]
    return {"latest": found[:LATEST], "raised": raised[:LATEST]}


def attempt(desk: Desk, each: Attempt, *, sees_args: bool) -> dict[str, Any]:
    """Return one attempt as plain values."""
    values = dataclasses.asdict(each)
    values["outcome"] = each.outcome.value
    shown = desk.redactor.recorded(each.actor_name, each.arguments)
    values["arguments"] = shown if sees_args else HIDDEN
    return values


def course_of(desk: Desk, message_id: str, *, sees_args: bool) -> dict[str, Any]:
    """Return what the history knows about a message: its attempts, parent and children."""
    history = desk.history
    if history is None:
        return {"attempts": None, "parent_id": None, "children": []}
    attempts = history.of_message(message_id, limit=MOST_ATTEMPTS)
    page = history.attempts(HistorySelection(parent_id=message_id), limit=MOST_ATTEMPTS)
    children = {each.message_id: each for each in reversed(page.attempts)}
    return {
        "attempts": [attempt(desk, each, sees_args=sees_args) for each in attempts],
        "parent_id": attempts[0].parent_id if attempts else None,
        "children": [attempt(desk, each, sees_args=sees_args) for each in children.values()],
    }


def selection_of(query: dict[str, str]) -> Selection:
    """Return what the filters in a URL select.

    Raises:
        ValueError: If a moment is none.
    """
    until = query.get("until")
    return Selection(
        queue_name=query.get("queue") or None,
        actor_name=query.get("actor") or None,
        message_id=query.get("id") or None,
        error=query.get("q") or None,
        error_class=query.get("error") or None,
        until=int(until) if until else None,
    )

"""What pages show and do, as JSON, by the same questions and actions; see `static/openapi.json`.

Arguments are text, as Python writes them: JSON's numbers end at 2 ** 53 in browsers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from ..inspection import State
from . import asking
from .acting import BULK_LIMIT, Confirmation
from .desk import HISTORY_IS_OFF, ask
from .messages import course_of, find, finished_page, latest_of, message_page, selection_of, show
from .rendering import STATIC
from .views.page import Page
from .workflows import detail, workflow_page

if TYPE_CHECKING:
    from .visit import Visit

__all__ = ["PAGES"]

ROOT = "/api/v1"


def _json(values: Any, status: int = 200) -> Response:
    return JSONResponse(values, status, {"Cache-Control": "no-store"})


def openapi(visit: Visit) -> Response:
    """Return the description of this interface, for where it is mounted."""
    described = json.loads((STATIC / "openapi.json").read_text(encoding="utf-8"))
    described["servers"] = [{"url": visit.url(ROOT)}]
    return _json(described)


def overview(visit: Visit) -> Response:
    """Return the sums of the first page."""
    found, _ = ask(lambda: asking.queues(visit.desk), [])
    return _json(asking.overview(visit.desk, found))


def queues(visit: Visit) -> Response:
    """Return the queues."""
    return _json({"queues": asking.queues(visit.desk), "count_limit": asking.COUNT_LIMIT})


def queue(visit: Visit) -> Response:
    """Return one queue."""
    return _json(asking.queue(visit.desk, visit.request.path_params["name"]))


def throughput(visit: Visit) -> Response:
    """Return attempts by minute."""
    minutes = asking.throughput(visit.desk, visit.query.get("queue"))
    if minutes is None:
        return _json({"error": HISTORY_IS_OFF}, 501)
    return _json({"minutes": minutes})


def messages(visit: Visit) -> Response:
    """Return a page of messages of one state."""
    state = State(visit.query.get("state", State.READY.value))
    selection = selection_of(visit.query)
    cursor = visit.query.get("cursor")
    return _json(message_page(visit.desk, state, selection, cursor, sees_args=visit.sees_args))


def attempts(visit: Visit) -> Response:
    """Return a page of attempts out of the history."""
    cursor = visit.query.get("cursor")
    return _json(finished_page(visit.desk, visit.query, cursor, sees_args=visit.sees_args))


def message(visit: Visit) -> Response:
    """Return all that is known about one message."""
    desk, message_id = visit.desk, visit.request.path_params["message_id"]
    found, is_complete = find(desk, message_id, insists=visit.query.get("search") == "all")
    course = course_of(desk, message_id, sees_args=visit.sees_args)
    stored = [show(desk, info, sees_args=visit.sees_args) for info in found]
    if not stored and not course["attempts"] and is_complete:
        return _json({"error": f"No message {message_id!r} is known."}, 404)
    return _json({"stored": stored, "is_complete": is_complete, **course})


def failures(visit: Visit) -> Response:
    """Return dead letters by actor and kind of error."""
    return _json(asking.failures(visit.desk, selection_of(visit.query)))


def count_failures(visit: Visit) -> Response:
    """Return how many dead letters a filter means, to be confirmed."""
    counted = visit.desk.inspection.count_dead(selection_of(visit.query), limit=BULK_LIMIT + 1)
    return _json({"count": min(counted, BULK_LIMIT), "is_more": counted > BULK_LIMIT})


def actors(visit: Visit) -> Response:
    """Return the actors."""
    return _json(asking.actors(visit.desk))


def actor(visit: Visit) -> Response:
    """Return one actor."""
    name = visit.request.path_params["name"]
    found = asking.actor(visit.desk, name)
    if found is None:
        return _json({"error": f"No actor {name!r} is known."}, 404)
    latest = latest_of(visit.desk, name, sees_args=visit.sees_args)
    minutes = asking.throughput(visit.desk, actor_name=name)
    return _json({"actor": found, "minutes": minutes, **latest})


def workers(visit: Visit) -> Response:
    """Return the worker processes and what they run."""
    return _json({"workers": asking.workers(visit.desk)})


def audit(visit: Visit) -> Response:
    """Return what was done."""
    return _json({"entries": asking.audit(visit.desk)})


def workflows(visit: Visit) -> Response:
    """Return a page of workflows."""
    return _json(workflow_page(visit.desk, visit.query.get("cursor")))


def workflow(visit: Visit) -> Response:
    """Return all about one workflow, or about a part of it."""
    workflow_id = visit.request.path_params["workflow_id"]
    found = detail(visit.desk, workflow_id, visit.query.get("node"))
    if found is None:
        return _no_workflow(workflow_id)
    return _json(found)


def cancel_workflow(visit: Visit) -> Response:
    """Cancel a workflow or a part of it."""
    workflow_id = visit.request.path_params["workflow_id"]
    is_cancelled = visit.actions.cancel_workflow(workflow_id, visit.form.get("node") or None)
    return _json({"is_cancelled": is_cancelled})


def retry_workflow(visit: Visit) -> Response:
    """Have what failed or was cancelled run again."""
    workflow_id = visit.request.path_params["workflow_id"]
    count = visit.actions.retry_workflow(workflow_id, visit.form.get("node") or None)
    return _no_workflow(workflow_id) if count is None else _json({"count": count})


def _no_workflow(workflow_id: str) -> Response:
    return _json({"error": f"No workflow {workflow_id!r} or no such part of it is known."}, 404)


def pause(visit: Visit) -> Response:
    """Pause a queue."""
    visit.actions.set_paused(visit.request.path_params["name"], is_paused=True)
    return _json({"is_paused": True})


def resume(visit: Visit) -> Response:
    """Resume a queue."""
    visit.actions.set_paused(visit.request.path_params["name"], is_paused=False)
    return _json({"is_paused": False})


def purge(visit: Visit) -> Response:
    """Drop messages of a queue."""
    states = [State(state) for state in visit.chosen("state")]
    confirmation = Confirmation.read(visit.form)
    name = visit.request.path_params["name"]
    return _json({"count": visit.actions.purge(name, states, confirmation)})


def requeue(visit: Visit) -> Response:
    """Requeue the dead letters that a filter means."""
    return _act(visit, "requeue")


def delete(visit: Visit) -> Response:
    """Delete the dead letters that a filter means."""
    return _act(visit, "delete")


def _act(visit: Visit, action: str) -> Response:
    selection = selection_of(visit.form)
    moved = visit.actions.act_on_dead(action, selection, Confirmation.read(visit.form))
    return _json({"count": moved})


PAGES = [
    Page(f"{ROOT}/openapi.json", openapi),
    Page(f"{ROOT}/overview", overview),
    Page(f"{ROOT}/queues", queues),
    Page(f"{ROOT}/queues/{{name}}", queue),
    Page(f"{ROOT}/queues/{{name}}/pause", pause, "POST"),
    Page(f"{ROOT}/queues/{{name}}/resume", resume, "POST"),
    Page(f"{ROOT}/queues/{{name}}/purge", purge, "POST"),
    Page(f"{ROOT}/throughput", throughput),
    Page(f"{ROOT}/messages", messages),
    Page(f"{ROOT}/messages/{{message_id}}", message),
    Page(f"{ROOT}/attempts", attempts),
    Page(f"{ROOT}/failures", failures),
    Page(f"{ROOT}/failures/count", count_failures),
    Page(f"{ROOT}/failures/requeue", requeue, "POST"),
    Page(f"{ROOT}/failures/delete", delete, "POST"),
    Page(f"{ROOT}/workflows", workflows),
    Page(f"{ROOT}/workflows/{{workflow_id}}", workflow),
    Page(f"{ROOT}/workflows/{{workflow_id}}/cancel", cancel_workflow, "POST"),
    Page(f"{ROOT}/workflows/{{workflow_id}}/retry", retry_workflow, "POST"),
    Page(f"{ROOT}/actors", actors),
    Page(f"{ROOT}/actors/{{name:path}}", actor),
    Page(f"{ROOT}/workers", workers),
    Page(f"{ROOT}/audit", audit),
]

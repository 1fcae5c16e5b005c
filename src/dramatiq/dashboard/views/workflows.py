"""Workflows: how far they are, what they are made of, and stopping or mending them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from ...workflows.tree import mermaid
from ..desk import ask
from ..graphs import draw_progress, draw_workflow
from ..workflows import MOST_NODES, SHOWN, rows_of, tree_of, workflow_of, workflow_page
from .page import Page, Tab

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["PAGES", "TAB"]

#: How the tree is shown.
VIEWS = ("graph", "table", "mermaid")


def list_some(visit: Visit) -> Response:
    """Show a page of workflows."""
    cursor = visit.query.get("cursor")
    page, why = ask(lambda: workflow_page(visit.desk, cursor), {"items": [], "cursor": None})
    return visit.render("workflows.html", page=page, why=why, draw_progress=draw_progress)


def show(visit: Visit) -> Response:
    """Show one workflow, or the part of it that a group or chain is."""
    workflow_id, node_id = visit.request.path_params["workflow_id"], visit.query.get("node")
    view = visit.query.get("view", VIEWS[0])
    if view not in VIEWS:
        raise ValueError(f"There is no view {view!r}. There are: {', '.join(VIEWS)}.")
    flow, why = ask(lambda: workflow_of(visit.desk, workflow_id), None)
    tree = None if flow is None else tree_of(visit.desk, workflow_id, node_id)
    graph = None
    if tree is not None and view == "graph":
        graph = draw_workflow(tree, lambda name: visit.url(f"/messages/{quote(name, safe='')}"))
    return visit.render(
        "workflow.html",
        status=404 if flow is None and why is None else 200,
        workflow_id=workflow_id,
        node_id=node_id,
        flow=flow,
        why=why,
        view=view,
        views=VIEWS,
        graph=graph,
        rows=list(rows_of(tree)) if tree is not None and view == "table" else [],
        mermaid=mermaid(tree) if tree is not None and view == "mermaid" else "",
        is_there=tree is not None,
        is_cut_short=tree is not None and any(row["hidden"] for row in rows_of(tree)),
        most=(SHOWN, MOST_NODES),
        draw_progress=draw_progress,
    )


def cancel(visit: Visit) -> Response:
    """Cancel a workflow or a part of it."""
    workflow_id, node_id = _target(visit)
    is_done = visit.actions.cancel_workflow(workflow_id, node_id)
    what = f"Part {node_id}" if node_id else "The workflow"
    if is_done:
        note = f"{what} is cancelled: what runs ends, what has not started does not start."
    else:
        note = f"{what} does not run, so nothing was cancelled."
    return _go_back(visit, workflow_id, note)


def retry(visit: Visit) -> Response:
    """Have what failed or was cancelled run again."""
    workflow_id, node_id = _target(visit)
    count = visit.actions.retry_workflow(workflow_id, node_id)
    if count is None:
        note = "There is no such workflow any more."
    else:
        note = f"{count:,} message{'' if count == 1 else 's'} started again."
    return _go_back(visit, workflow_id, note)


def _target(visit: Visit) -> tuple[str, str | None]:
    return visit.request.path_params["workflow_id"], visit.form.get("node") or None


def _go_back(visit: Visit, workflow_id: str, note: str) -> Response:
    return visit.go_back(f"/workflows/{quote(workflow_id, safe='')}", note)


PAGES = [
    Page("/workflows", list_some),
    Page("/workflows/{workflow_id}", show),
    Page("/workflows/{workflow_id}/cancel", cancel, "POST"),
    Page("/workflows/{workflow_id}/retry", retry, "POST"),
]
TAB = Tab("Workflows", "/workflows", "workflows")

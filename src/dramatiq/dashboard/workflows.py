"""What pages and the JSON API show of workflows, at a bounded cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..inspection import Inspection, InspectionNotSupported
from ..workflows.nodes import ROOT, Address
from ..workflows.tree import mermaid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..message import Message
    from ..workflows.tree import WorkflowInfo, WorkflowNode
    from .desk import Desk

__all__ = [
    "MOST_NODES",
    "SHOWN",
    "keeper_of",
    "outline",
    "place_of",
    "rows_of",
    "tree_of",
    "workflow_of",
    "workflow_page",
]

#: Workflows on a page.
PAGE = 25
#: Children that are shown of one group or chain.
SHOWN = 100
#: Nodes that are shown of one workflow; shared out evenly among its groups and chains.
MOST_NODES = 300
#: Nodes that are read to tell in a line what a workflow is made of.
OUTLINED = 5


def keeper_of(desk: Desk) -> Inspection:
    """Return who can be asked about workflows.

    Raises:
        InspectionNotSupported: If the broker has nowhere to keep them.
    """
    try:
        _ = desk.broker.workflows
    except RuntimeError as error:
        raise InspectionNotSupported(
            f"{type(desk.broker).__name__} has nowhere to keep workflows: add a result backend or "
            "rate limiter backend on Redis or SQLite to it."
        ) from error
    return desk.inspection


def workflow_page(desk: Desk, cursor: str | None) -> dict[str, Any]:
    """Return a page of workflows, the newest first.

    Raises:
        InspectionNotSupported: If the broker has nowhere to keep them.
        ValueError: If the cursor is none.
    """
    keeper = keeper_of(desk)
    infos, following = keeper.workflows(limit=PAGE, cursor=cursor or None)
    items = []
    for info in infos:
        tree = keeper.workflow_tree(info.workflow_id, shown=OUTLINED - 1, limit=OUTLINED)
        items.append({**_figures(info), "outline": "" if tree is None else outline(tree)})
    return {"items": items, "cursor": following}


def workflow_of(desk: Desk, workflow_id: str) -> dict[str, Any] | None:
    """Return the figures of one workflow; None if it is not there (any more)."""
    info = keeper_of(desk).workflow(workflow_id)
    return None if info is None else _figures(info)


def tree_of(desk: Desk, workflow_id: str, node_id: str | None) -> WorkflowNode | None:
    """Return a workflow's tree, or that below a group or chain; None if there is no such thing."""
    return keeper_of(desk).workflow_tree(
        workflow_id, node_id=node_id or ROOT, shown=SHOWN, limit=MOST_NODES
    )


def _figures(info: WorkflowInfo) -> dict[str, Any]:
    values = dataclasses.asdict(info)
    values["state"] = info.state.value
    # What failed and is allowed to counts as done as well.
    values["left"] = max(info.total - info.done - info.failed, 0)
    return values


def outline(node: WorkflowNode) -> str:
    """Return in a line what a workflow is made of."""
    if node.kind == "message":
        return node.actor_name or "?"
    if node.kind == "group":
        return f"{node.size:,} × {_inside(node)}" if node.children else f"group of {node.size:,}"
    steps = [outline(child) for child in node.children]
    if node.size > len(steps):
        steps.append(f"{node.size - len(steps):,} more")
    return " → ".join(steps)


def _inside(group: WorkflowNode) -> str:
    kinds = list(dict.fromkeys(outline(child) for child in group.children))
    if len(kinds) == 1 and " " not in kinds[0]:
        return kinds[0]
    is_more = len(kinds) > 2 or group.size > len(group.children)
    return f"({', '.join(kinds[:2])}{', …' if is_more else ''})"


def rows_of(node: WorkflowNode, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a tree, each before what is below it, and how many are not shown."""
    values = {name: getattr(node, name) for name in _NODE_FIELDS}
    hidden = node.size - len(node.children)
    yield {**values, "depth": depth, "hidden": 0}
    for child in node.children:
        yield from rows_of(child, depth + 1)
    if hidden:
        yield {**values, "depth": depth + 1, "hidden": hidden}


_NODE_FIELDS = (
    "node_id",
    "kind",
    "state",
    "actor_name",
    "message_id",
    "error",
    "size",
    "settled",
    "failed",
)


def as_plain(node: WorkflowNode) -> dict[str, Any]:
    """Return a tree as plain values."""
    values = {name: getattr(node, name) for name in _NODE_FIELDS}
    return {**values, "children": [as_plain(child) for child in node.children]}


def detail(desk: Desk, workflow_id: str, node_id: str | None) -> dict[str, Any] | None:
    """Return all about one workflow as plain values; None if it is not there (any more)."""
    figures = workflow_of(desk, workflow_id)
    tree = None if figures is None else tree_of(desk, workflow_id, node_id)
    if figures is None or tree is None:
        return None
    return {**figures, "tree": as_plain(tree), "mermaid": mermaid(tree)}


def place_of(message: Message[Any]) -> dict[str, str] | None:
    """Return which workflow a message is part of, and where; None if it is of none."""
    try:
        address = Address.of(message.options)
    except TypeError:  # somebody else's option of that name
        return None
    if address is None:
        return None
    return {
        "workflow_id": str(address.flow),
        "node_id": f"{address.frame}.{address.child}",
    }

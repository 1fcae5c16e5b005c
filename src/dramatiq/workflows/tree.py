"""Workflows as people see them: figures, a tree, and the tree as Mermaid text. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .reading import State

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["State", "WorkflowInfo", "WorkflowNode", "mermaid"]


@dataclass(frozen=True)
class WorkflowInfo:
    """One workflow, without what is inside."""

    workflow_id: str
    state: State
    #: Messages: all there are so far, those that are done (also where a failure is allowed), and
    #: those that have failed for good.
    total: int
    done: int
    failed: int
    #: UNIX epoch milliseconds.
    created_at: int
    #: Why it failed: type and text of the exception, actor, queue and message id.
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class WorkflowNode:
    """A message, chain or group of a workflow."""

    #: Its place: ``0`` is the whole, ``0.2`` its third child.
    node_id: str
    #: ``message``, ``chain`` or ``group``.
    kind: str
    #: ``waiting``, ``running``, ``done``, ``tolerated`` (failed, which is allowed), ``failed`` or
    #: ``cancelled``.
    state: str
    actor_name: str | None = None
    message_id: str | None = None
    error: dict[str, Any] | None = None
    #: How many children there are; more than `children` holds for a large group.
    size: int = 0
    #: How many children let a chain or group go on, and how many have failed for good.
    settled: int = 0
    failed: int = 0
    children: list[WorkflowNode] = field(default_factory=list)

    def count_below(self) -> int:
        """Return how many nodes are below this one, of those that are shown."""
        return len(self.children) + sum(child.count_below() for child in self.children)


def mermaid(root: WorkflowNode) -> str:
    """Return the tree of a workflow as a Mermaid flow chart.

    Edges lead from what ends to what starts after it; a group is a box.
    """
    lines = ["flowchart LR"]
    edges: list[str] = []
    lines += _draw(root, edges, "    ")
    lines += sorted(set(edges), key=edges.index)
    for state, style in _STYLES.items():
        lines.append(f"    classDef {state} {style}")
    return "\n".join(lines) + "\n"


_STYLES = {
    "waiting": "stroke-dasharray: 4",
    "running": "stroke-width: 3px",
    "done": "fill: #d5f0d5",
    "tolerated": "fill: #f5ebc8",
    "failed": "fill: #f5c8c8",
    "cancelled": "fill: #dddddd",
}


def _draw(node: WorkflowNode, edges: list[str], indent: str) -> Iterator[str]:
    name = _name(node)
    if node.kind == "message":
        yield f'{indent}{name}["{_escaped(node.actor_name or "")}"]:::{node.state}'
        return
    hidden = node.size - len(node.children)
    label = f"{node.kind} {node.node_id}" + (f", {hidden} more" if hidden else "")
    yield f'{indent}subgraph {name}["{label}"]'
    if not node.children:
        yield f'{indent}    {name}_empty["{node.size} children"]:::{node.state}'
    for child in node.children:
        yield from _draw(child, edges, indent + "    ")
    if node.kind == "chain":
        for before, after in zip(node.children, node.children[1:], strict=False):
            edges.append(f"    {_name(before)} --> {_name(after)}")
    yield f"{indent}end"


def _name(node: WorkflowNode) -> str:
    return "n" + node.node_id.replace(".", "_")


def _escaped(text: str) -> str:
    return text.replace('"', "#quot;")

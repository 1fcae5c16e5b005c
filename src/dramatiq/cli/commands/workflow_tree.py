"""What `workflows` shows of one workflow: its figures, and its tree as rows. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .tables import clean, shorten
from .units import ago, as_moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...workflows.tree import WorkflowInfo, WorkflowNode

__all__ = ["ERROR_WIDTH", "HEADERS", "describe_error", "head_lines", "rows_of"]

#: The columns of the tree.
HEADERS = ["NODE", "WHAT", "STATE", "MESSAGE", "ERROR"]
#: Most characters of an error in a table.
ERROR_WIDTH = 50
#: Columns of the labels.
LABEL_WIDTH = 11
#: States in which a child is over.
ENDED = frozenset({"done", "tolerated", "failed", "cancelled"})


def head_lines(info: WorkflowInfo, now_ms: int) -> list[str]:
    """Return lines about a workflow, each with its label in the first columns."""
    done = f"{info.done:,} of {info.total:,} messages done"
    lines = [
        _line("workflow", info.workflow_id),
        _line("state", info.state.value),
        _line("progress", f"{done}, {info.failed:,} failed" if info.failed else done),
        _line("started", f"{as_moment(info.created_at)} ({ago(info.created_at, now_ms)})"),
    ]
    if info.error is not None:
        error = info.error
        lines.append(_line("error", clean(describe_error(error))))
        if error.get("message_id"):
            lines.append(
                _line("", clean(f"of {error.get('actor')}, message {error['message_id']}"))
            )
    return lines


def rows_of(node: WorkflowNode, depth: int = 0) -> Iterator[list[Any]]:
    """Yield a row for a node and for each that is shown below it; see `HEADERS`."""
    error = "" if node.error is None else shorten(describe_error(node.error), ERROR_WIDTH)
    yield [
        node.node_id,
        f"{'  ' * depth}{_what(node)}",
        node.state,
        node.message_id or "",
        error,
    ]
    for child in node.children:
        yield from rows_of(child, depth + 1)
    hidden = node.size - len(node.children)
    if hidden > 0:
        yield ["", f"{'  ' * (depth + 1)}... and {hidden:,} more", "", "", ""]


def describe_error(error: dict[str, Any]) -> str:
    """Return the type and text of an error."""
    return f"{error.get('type')}: {error.get('message')}"


def _what(node: WorkflowNode) -> str:
    if node.kind == "message":
        return node.actor_name or "?"
    if len(node.children) < node.size:
        return f"{node.kind} of {node.size:,}"
    ended = sum(child.state in ENDED for child in node.children)
    return f"{node.kind}, {ended:,} of {node.size:,} ended"


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{text}"

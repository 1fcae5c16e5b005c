"""Workflows as SVG, drawn by the server: no script, no style attribute. Pure.

A message is a box, a chain a row of boxes with arrows between them, a group a frame around a
column of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markupsafe import Markup

from .formats import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..workflows.tree import WorkflowNode

__all__ = ["MOST_DRAWN", "draw_progress", "draw_workflow"]

#: Children of one group or chain that are drawn; the rest is a box that says how many.
MOST_DRAWN = 12
#: Size of a box, and the room between two of them.
WIDTH, HEIGHT = 172, 44
BESIDE, BELOW = 34, 12
#: Room around what is in a group; its label stands above that.
PAD, LABEL = 12, 20
#: Characters that fit into a box.
LETTERS = 22


@dataclass
class _Drawing:
    """Something that was drawn at the origin."""

    width: float
    height: float
    #: To be moved to their places.
    parts: list[tuple[float, float, _Drawing]] = field(default_factory=list)
    #: What is drawn behind the parts.
    own: Callable[[float, float], Markup] = lambda x, y: Markup("")


def draw_workflow(tree: WorkflowNode, link: Callable[[str], str]) -> Markup:
    """Return a workflow, from left to right.

    Args:
        tree: The workflow.
        link: Returns the URL of a message, by its id.
    """
    drawing = _layout(tree, link)
    width, height = drawing.width + 2, drawing.height + 2
    head = Markup(
        '<svg class="graph" width="{:.0f}" height="{:.0f}" viewBox="0 0 {:.0f} {:.0f}" '
        'role="group" aria-label="{}">'
    ).format(width, height, width, height, f"Graph of the {tree.kind} {tree.node_id}")
    return Markup("").join([head, _place(drawing, 1, 1), Markup("</svg>")])


def draw_progress(done: int, failed: int, total: int) -> Markup:
    """Return a bar of how many messages are done, and how many have failed."""
    scale = 100 / max(total, 1)
    # What failed and is allowed to is done as well.
    failed = min(failed, max(total - done, 0))
    return Markup(
        '<svg class="progress" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="column" width="100" height="8"/>'
        '<rect class="bar-done" width="{:.2f}" height="8"/>'
        '<rect class="bar-failed" x="{:.2f}" width="{:.2f}" height="8"/></svg>'
    ).format(done * scale, done * scale, failed * scale)


def _place(drawing: _Drawing, x: float, y: float) -> Markup:
    inside = [_place(part, x + left, y + top) for left, top, part in drawing.parts]
    return Markup("").join([drawing.own(x, y), *inside])


def _layout(node: WorkflowNode, link: Callable[[str], str]) -> _Drawing:
    if node.kind == "message":
        url = link(node.message_id or "")
        title = f"{node.node_id} {node.actor_name}: {node.state}"
        return _box(node.actor_name or "?", node.state, node.state, title, url)
    drawn = [_layout(child, link) for child in node.children[:MOST_DRAWN]]
    hidden = node.size - len(drawn)
    if hidden or not drawn:
        what = f"{hidden:,} more" if drawn else f"{node.size:,} children"
        drawn.append(_box(what, "not drawn", "hidden", f"{what} of {node.kind} {node.node_id}"))
    return _chain(drawn) if node.kind == "chain" else _group(drawn, node)


def _box(text: str, below: str, kind: str, title: str, url: str = "") -> _Drawing:
    def draw(x: float, y: float) -> Markup:
        box = Markup(
            '<g class="node node-{}"><title>{}</title>'
            '<rect x="{:.1f}" y="{:.1f}" width="{}" height="{}" rx="7"/>'
            '<text class="node-name" x="{:.1f}" y="{:.1f}">{}</text>'
            '<text class="node-state" x="{:.1f}" y="{:.1f}">{}</text></g>'
        ).format(
            kind, title, x, y, WIDTH, HEIGHT, x + 12, y + 19, shorten(text, LETTERS), x + 12,
            y + 35, below,
        )  # fmt: skip
        return Markup('<a href="{}">{}</a>').format(url, box) if url else box

    return _Drawing(WIDTH, HEIGHT, own=draw)


def _chain(steps: Sequence[_Drawing]) -> _Drawing:
    height = max(step.height for step in steps)
    parts: list[tuple[float, float, _Drawing]] = []
    arrows: list[float] = []
    x = 0.0
    for step in steps:
        if parts:
            arrows.append(x)
            x += BESIDE
        parts.append((x, (height - step.height) / 2, step))
        x += step.width

    def draw(left: float, top: float) -> Markup:
        middle = top + height / 2
        return Markup("").join(
            Markup(
                '<path class="edge" d="M{:.1f} {:.1f}h{}"/>'
                '<path class="tip" d="M{:.1f} {:.1f}l-7 -4v8z"/>'
            ).format(left + at + 3, middle, BESIDE - 9, left + at + BESIDE - 1, middle)
            for at in arrows
        )

    return _Drawing(x, height, parts, draw)


def _group(children: Sequence[_Drawing], node: WorkflowNode) -> _Drawing:
    width = max(child.width for child in children)
    parts: list[tuple[float, float, _Drawing]] = []
    y = float(PAD + LABEL)
    for child in children:
        parts.append((PAD + (width - child.width) / 2, y, child))
        y += child.height + BELOW
    height = y - BELOW + PAD
    failed = f", {node.failed:,} failed" if node.failed else ""
    label = f"{node.settled:,} of {node.size:,}{failed}"

    def draw(left: float, top: float) -> Markup:
        return Markup(
            '<g class="box box-{}"><title>{}</title>'
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="10"/>'
            '<text class="axis" x="{:.1f}" y="{:.1f}">{}</text></g>'
        ).format(
            node.state, f"group {node.node_id}: {node.state}", left, top, width + 2 * PAD, height,
            left + PAD, top + PAD + 8, label,
        )  # fmt: skip

    return _Drawing(width + 2 * PAD, height, parts, draw)

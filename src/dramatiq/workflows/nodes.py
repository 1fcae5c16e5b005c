"""What a workflow is made of, and how it is written down. Pure.

A composition is a tree of nodes: messages, chains and groups. A chain or group is kept as a
*frame*, named by its place: ``0`` is the root, ``0.3`` the frame of the root's fourth child. The
fields of a frame ``f``:

- ``f:head`` its kind, size and policies; written last, so that a frame that has one is complete,
- ``f@k`` its children, some at a time: messages whole, frames by their absence,
- ``f:chunks`` how many of these there are,
- ``f:pos`` how far it has been started: for a chain the index of the step, -1 before the first;
  for a group the chunk, and how many of its messages are sent if it was sent in parts,
- ``f:size`` and ``f:left`` (groups) how many children there are, and how many are missing,
- ``f:bad`` how many children have failed, if any has,
- ``f#i`` what became of child ``i``, see `rules`,
- ``f:end`` once what is to follow its end was sent.

Of the whole workflow: ``:state`` (running, done, failed or cancelled), ``:total``, ``:done`` and
``:failed`` (messages), ``:error``, ``:created``, ``:then`` (what else to do with the result),
``:epoch`` (how often it was retried), ``:claim`` (see `driving`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..message import get_encoder
from .policies import FAIL, OPTION, POLICY_OPTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..message import Message

__all__ = [
    "GROUP_CHUNK",
    "ROOT",
    "Address",
    "Frame",
    "Head",
    "Leaf",
    "Node",
    "count_leaves",
    "decode",
    "encode",
    "fields_of",
    "node_of",
    "parent_of",
    "root_of",
]

#: The name of the outermost frame.
ROOT = "0"
#: Children of a group that are kept in one field, and started in one step.
GROUP_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Leaf:
    """A message."""

    message: Message[Any]
    failure: str = FAIL


@dataclass(frozen=True, slots=True)
class Frame:
    """Children one after the other or side by side, and what is to follow."""

    is_chain: bool
    children: Sequence[Node]
    failure: str = FAIL
    on_success: Sequence[dict[str, Any]] = ()
    on_failure: Sequence[dict[str, Any]] = ()
    #: Sent after all children succeeded, as they are.
    callbacks: Sequence[dict[str, Any]] = field(default_factory=tuple)


Node: TypeAlias = Leaf | Frame


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a frame that does not change, but for the size of a group."""

    is_chain: bool
    size: int
    failure: str
    on_success: Sequence[dict[str, Any]]
    on_failure: Sequence[dict[str, Any]]
    callbacks: Sequence[dict[str, Any]]
    #: Whether it took the place of a message that returned it. That message has had the result of
    #: the step before, so this is not given it.
    is_replacement: bool = False

    @classmethod
    def read(cls, data: bytes) -> Head:
        """Return what `fields_of` wrote."""
        return cls(*decode(data))


class Address(NamedTuple):
    """The place of a message in a workflow."""

    flow: str
    frame: str
    child: int
    failure: str = FAIL

    @classmethod
    def of(cls, options: dict[str, Any]) -> Address | None:
        """Return the place that a message's options name; None if there is none."""
        place = options.get(OPTION)
        return None if place is None else cls(*place)

    def option(self) -> list[Any]:
        """Return what a message carries."""
        place: list[Any] = [self.flow, self.frame, self.child]
        return place if self.failure == FAIL else [*place, self.failure]


def node_of(composed: Any, failure: str = FAIL) -> Node:
    """Return a message, pipeline or group as a node.

    Args:
        composed: The message, pipeline or group.
        failure: What becomes of its parent if it fails, unless it says so itself.
    """
    if hasattr(composed, "_as_node"):
        node: Node = composed._as_node(failure)
        return node
    return Leaf(composed, composed.options.get(POLICY_OPTION) or failure)


def root_of(composed: Any) -> Frame:
    """Return a message, pipeline or group as the frame of a workflow."""
    node = node_of(composed)
    return Frame(True, [node]) if isinstance(node, Leaf) else node


def encode(value: Any) -> bytes:
    """Turn a value into bytes with the encoder of messages."""
    return get_encoder().encode(value)


def decode(data: bytes) -> Any:
    """Turn them back."""
    return get_encoder().decode(data)


def parent_of(frame: str) -> tuple[str, int] | None:
    """Return the parent of a frame and its place there; None for the root."""
    parent, _, index = frame.rpartition(".")
    return (parent, int(index)) if parent else None


def count_leaves(node: Node) -> int:
    """Return how many messages there are."""
    if isinstance(node, Leaf):
        return 1
    return sum(count_leaves(child) for child in node.children)


def fields_of(
    node: Frame, frame: str, *, is_replacement: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Yield the fields of a frame and of those inside it, its head last."""
    step = 1 if node.is_chain else GROUP_CHUNK
    starts = range(0, len(node.children), step)
    for chunk, start in enumerate(starts):
        yield from chunk_of(node.children[start : start + step], frame, chunk, start)
    yield f"{frame}:chunks", b"%d" % len(starts)
    yield f"{frame}:pos", b"-1" if node.is_chain else b"0"
    if not node.is_chain:
        yield f"{frame}:left", b"%d" % len(node.children)
        yield f"{frame}:size", b"%d" % len(node.children)
    head = (
        node.is_chain,
        len(node.children),
        node.failure,
        list(node.on_success),
        list(node.on_failure),
        list(node.callbacks),
        is_replacement,
    )
    yield f"{frame}:head", encode(head)


def chunk_of(
    children: Sequence[Node], frame: str, chunk: int, first: int
) -> Iterator[tuple[str, bytes]]:
    """Yield the fields of some children, of which the first has a given index."""
    specs: list[tuple[str, dict[str, Any] | None]] = []
    for index, child in enumerate(children, first):
        if isinstance(child, Leaf):
            specs.append((child.failure, child.message.asdict()))
        else:
            yield from fields_of(child, f"{frame}.{index}")
            specs.append((child.failure, None))
    yield f"{frame}@{chunk}", encode((first, specs))

"""Looking at workflows and acting on them: for inspection."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..common import q_name
from .nodes import ROOT, Address, Head, decode, parent_of
from .reading import State, is_settled
from .rules import CANCELLED, FAILED, RUNNING, TOLERATED
from .store import Arrival, Change
from .tree import WorkflowInfo, WorkflowNode
from .values import failure_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .engine import Workflows
    from .reading import Chunk

__all__ = ["Care"]

#: Most children of a frame that are shown.
SHOWN = 100


class Care:
    """Answers and acts for the workflows of one broker.

    Args:
        workflows: Its workflows.
    """

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows
        self._store = workflows.store
        self._reader = workflows.reader

    # -- looking

    def infos(self, limit: int, cursor: str | None) -> tuple[list[WorkflowInfo], str | None]:
        """Return workflows, the newest first, and where the next ones are."""
        flows, following = self._store.flows(limit, cursor)
        infos = [info for flow in flows if (info := self.info(flow)) is not None]
        return infos, following

    def info(self, flow: str) -> WorkflowInfo | None:
        """Return one workflow without what is inside; None if it is not there."""
        names = (":state", ":total", ":done", ":failed", ":created", ":error")
        state, total, done, failed, created, error = self._reader.fields(flow, *names)
        if state is None:
            return None
        return WorkflowInfo(
            flow,
            State(state.decode()),
            total=int(total or 0),
            done=int(done or 0),
            failed=int(failed or 0),
            created_at=int(created or 0),
            error=None if error is None else decode(error),
        )

    def tree(
        self, flow: str, frame: str = ROOT, *, shown: int = SHOWN, limit: int | None = None
    ) -> WorkflowNode | None:
        """Return what a workflow or a part of it is made of; None if it is not there.

        Args:
            flow: The workflow.
            frame: The chain or group to begin with.
            shown: Most children of one frame.
            limit: Most nodes in all; None for any number.
        """
        head = self._reader.head(flow, frame)
        if head is None:
            return None
        limit = sys.maxsize if limit is None else limit
        return self._frame(flow, frame, head, self._state_of(flow, frame), shown, limit)

    def _state_of(self, flow: str, frame: str) -> str:
        place = parent_of(frame)
        if place is None:
            [state] = self._reader.fields(flow, ":state")
            return (state or b"").decode()
        parent, index = place
        return _state(self._reader.raw(flow, parent, index, 1)[0], has_started=True)

    def _frame(
        self, flow: str, frame: str, head: Head, state: str, shown: int, limit: int
    ) -> WorkflowNode:
        size = self._reader.size(flow, frame, head)
        settled, failed = self._progress(flow, frame, head, state, size)
        count = min(size, shown, max(limit, 0))
        return WorkflowNode(
            frame,
            "chain" if head.is_chain else "group",
            state,
            size=size,
            settled=settled,
            failed=failed,
            children=self._children(flow, frame, head, count, shown, limit) if count else [],
        )

    def _progress(
        self, flow: str, frame: str, head: Head, state: str, size: int
    ) -> tuple[int, int]:
        """Return how many children let the frame go on, and how many have failed."""
        names = (f"{frame}:pos", f"{frame}:left", f"{frame}:bad")
        position, left, failed = self._reader.fields(flow, *names)
        if state == "done":
            settled = size
        elif head.is_chain:
            settled = max(int(position or 0), 0)
        else:
            settled = size - int(left or 0)
        return settled, int(failed or 0)

    def _children(
        self, flow: str, frame: str, head: Head, count: int, shown: int, limit: int
    ) -> list[WorkflowNode]:
        """Return the first children; what the limit leaves is shared out among their own."""
        raws = self._reader.raw(flow, frame, 0, count)
        heads = self._reader.heads(flow, frame, count)
        started = self._started(flow, frame, head)
        children: list[WorkflowNode] = []
        left = limit - count
        frames = sum(inner is not None for inner in heads)
        for index, (_, fields) in enumerate(self._specs(flow, frame, count)):
            state = _state(raws[index], has_started=index < started)
            node, inner = f"{frame}.{index}", heads[index]
            if inner is not None:
                child = self._frame(flow, node, inner, state, shown, left // frames)
                left -= child.count_below()
                frames -= 1
                children.append(child)
            elif fields is not None:
                names = {name: fields[name] for name in ("actor_name", "message_id")}
                error = _error(raws[index])
                children.append(WorkflowNode(node, "message", state, error=error, **names))
        return children

    def _specs(
        self, flow: str, frame: str, count: int
    ) -> Iterator[tuple[str, dict[str, Any] | None]]:
        for chunk in self._reader.chunks(flow, frame):
            yield from chunk.specs[: count - chunk.first]
            if chunk.first + len(chunk.specs) >= count:
                return

    def _started(self, flow: str, frame: str, head: Head) -> int:
        """Return how many of the first children were started, at least."""
        position, count = self._reader.fields(flow, f"{frame}:pos", f"{frame}:chunks")
        if head.is_chain:
            return int(position or -1) + 1
        number, _, offset = (position or b"0").decode().partition(".")
        if int(number) >= int(count or 0):
            return self._reader.size(flow, frame, head)
        return self._reader.chunk(flow, frame, int(number)).first + int(offset or 0)

    # -- acting

    def cancel(self, flow: str, node: str | None = None) -> bool:
        """Cancel a workflow or a part of it; False if it is not running.

        What runs ends, what has not started does not start. For a part, it fails: what it is
        part of goes on or fails as its policy says.
        """
        if node is None or node == ROOT:
            change = Change({":state": RUNNING}, {":state": b"cancelled"})
            is_cancelled = self._store.change(flow, change)
            if is_cancelled:
                self._store.mark_cancelled(flow, True)
            return is_cancelled
        parent, index = self._place(node)
        head = self._reader.head(flow, node)
        [raw] = self._reader.raw(flow, parent, index, 1)
        if self._reader.fields(flow, ":state")[0] != RUNNING or is_settled(raw):
            return False
        policy, fields = self._spec(flow, parent, index)
        self._store.mark_cancelled(f"{flow}/{node}", True)
        error = {
            "type": "Cancelled",
            "message": f"node {node} was cancelled",
            "actor": "" if fields is None else fields["actor_name"],
            "queue": "" if fields is None else fields["queue_name"],
            "message_id": "" if fields is None else fields["message_id"],
        }
        policy = policy if head is None else head.failure
        value = failure_value(policy, error)
        self._workflows.settle([Arrival(flow, parent, index, value, is_leaf=fields is not None)])
        return True

    def _place(self, node: str) -> tuple[str, int]:
        is_node = all(part.isdecimal() for part in node.split("."))
        place = parent_of(node) if is_node else None
        if place is None:
            raise ValueError(f"{node!r} is no node of a workflow; nodes are numbers and dots.")
        return place

    def _spec(self, flow: str, frame: str, index: int) -> tuple[str, dict[str, Any] | None]:
        for chunk in self._reader.chunks(flow, frame):
            if chunk.first <= index < chunk.first + len(chunk.specs):
                return chunk.specs[index - chunk.first]
        raise ValueError(f"Workflow {flow} has no node {frame}.{index}.")

    def retry(self, flow: str, node: str | None, requeue: Callable[[str, str], int]) -> int | None:
        """Have what failed or was cancelled run again; return how many messages do.

        Args:
            flow: The workflow.
            node: A part of it; all of it if None.
            requeue: Puts the dead letters of a message back; given its queue and id, returns how
                many there were.

        Returns:
            How many messages were started again; None if there is no such workflow.
        """
        node = node or ROOT
        if self._reader.fields(flow, ":state")[0] is None:
            return None
        if self._reader.head(flow, node) is None:
            self._spec(flow, *self._place(node))  # refuses a node that is not there
        self._store.change(flow, Change({}, {}, {":epoch": 1}))
        for mark in self._store.cancelled():
            if mark == flow or f"{mark}.".startswith(f"{flow}/{node}."):
                self._store.mark_cancelled(mark, False)
        count = 0
        self._let_run(flow)
        while True:
            if self._reader.head(flow, node) is None:
                parent, index = self._place(node)
                count += self._retry_child(flow, parent, index, requeue)
            else:
                count += self._retry_frame(flow, node, requeue)
            # It may have stopped meanwhile, by a failure that was told late and is taken back.
            if int(self._reader.fields(flow, f"{ROOT}:bad")[0] or 0) or not self._let_run(flow):
                break
        self._workflows.resume(flow)
        return count

    def _let_run(self, flow: str) -> bool:
        """Have a workflow run; False if it does already, or is done."""
        return any(
            self._store.change(
                flow,
                Change({":state": state}, {":state": RUNNING, ":error": None, f"{ROOT}:end": None}),
            )
            for state in (b"failed", b"cancelled")
        )

    def _retry_frame(self, flow: str, frame: str, requeue: Callable[[str, str], int]) -> int:
        head = self._reader.head(flow, frame)
        if head is None:
            return 0
        [end] = self._reader.fields(flow, f"{frame}:end")
        if end == b"failed":
            self._store.change(flow, Change({f"{frame}:end": end}, {f"{frame}:end": None}))
        count = 0
        for chunk in self._reader.chunks(flow, frame):
            raws = self._reader.raw(flow, frame, chunk.first, len(chunk.specs))
            for index, raw in enumerate(raws, chunk.first):
                if not is_settled(raw):
                    count += self._retry_child(flow, frame, index, requeue, raw, chunk)
        return count

    def _retry_child(
        self,
        flow: str,
        frame: str,
        index: int,
        requeue: Callable[[str, str], int],
        raw: bytes | None = None,
        chunk: Chunk | None = None,
    ) -> int:
        if raw is None:
            [raw] = self._reader.raw(flow, frame, index, 1)
        if self._reader.head(flow, f"{frame}.{index}") is not None:
            if raw is not None and raw[:1] == FAILED:
                self._take_back(flow, frame, index, raw, None, {})
            return self._retry_frame(flow, f"{frame}.{index}", requeue)
        if raw is None or raw[:1] not in FAILED + CANCELLED:
            return 0
        policy, fields = (
            self._spec(flow, frame, index) if chunk is None else chunk.specs[index - chunk.first]
        )
        if fields is None:
            return 0
        message_id, queue_name = fields["message_id"], fields["queue_name"]
        if raw[:1] == FAILED:
            error = decode(raw[1:])
            # That of the message which took its place, if one did.
            message_id = error["message_id"] or message_id
            queue_name = error["queue"] or queue_name
            # Not failed any more from here on: whoever still tells others of that finds it so.
            if not self._take_back(flow, frame, index, raw, CANCELLED, {":failed": -1}):
                return 0
        if requeue(q_name(queue_name), message_id):
            key = f"{frame}#{index}"
            self._store.change(flow, Change({key: CANCELLED}, {key: None}))
            return 1
        address = Address(flow, frame, index, policy)
        return int(self._workflows.restart(address, fields, CANCELLED))

    def _take_back(
        self,
        flow: str,
        frame: str,
        index: int,
        raw: bytes,
        value: bytes | None,
        increments: dict[str, int],
    ) -> bool:
        """Replace a failure."""
        key = f"{frame}#{index}"
        increments = {**increments, f"{frame}:bad": -1}
        return self._store.change(flow, Change({key: raw}, {key: value}, increments))


def _state(raw: bytes | None, *, has_started: bool) -> str:
    if raw is None:
        return "running" if has_started else "waiting"
    if raw[:1] == FAILED:
        return "failed"
    if raw[:1] == CANCELLED:
        return "cancelled"
    return "tolerated" if raw[:1] == TOLERATED else "done"


def _error(raw: bytes | None) -> dict[str, Any] | None:
    if raw is None or raw[:1] != FAILED:
        return None
    error: dict[str, Any] = decode(raw[1:])
    return error

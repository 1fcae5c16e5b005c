"""Makes workflows go on: starts what is next, and tells parents what became of their children.

Every step is safe to repeat, and any number of helpers may be at it: a helper looks how far a
frame has got, prepares what is next (hooks included) and exchanges the position for the next one
together with storing the messages, if nobody else did so meanwhile. Whoever settles the message
whose arrival made a frame ready keeps it until this is done; if it dies, the message is delivered
again, arrives again, and is told again that the frame is ready.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..common import current_millis
from ..failpoints import hit
from ..logging import get_logger
from ..message import generate_unique_id
from .cancelling import Cancellations
from .driving import Driver
from .ends import Ends
from .nodes import (
    ROOT,
    Address,
    Frame,
    chunk_of,
    count_leaves,
    decode,
    encode,
    fields_of,
    parent_of,
)
from .reading import is_settled
from .rules import FORGOTTEN, FRAME, RUNNING
from .store import Arrival, Change, Status
from .values import failure_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .nodes import Node
    from .store import WorkflowStore

__all__ = ["Workflows"]

#: Most fields, and most bytes of them, written by one step while a workflow is made.
BATCH = 500
BATCH_BYTES = 1024 * 1024


class Workflows:
    """The workflows of one broker. May be used from any thread.

    Args:
        broker: The broker.
        store: Where they are kept.
    """

    def __init__(self, broker: Any, store: WorkflowStore) -> None:
        self.logger = get_logger("dramatiq.workflows", type(self))
        self.store = store
        self.broker = broker
        self._driver = Driver(broker, store, self._fail_unsent)
        self.reader = self._driver.reader
        self._ends = Ends(broker, self._driver)
        self.cancellations = Cancellations(store)

    # -- beginning

    def start(self, root: Frame, *, delay: int | None = None) -> str:
        """Write a workflow down and start it.

        Args:
            root: What it is made of.
            delay: Milliseconds before its first steps may run.

        Returns:
            Its id.
        """
        flow = generate_unique_id()
        self._write(flow, root)
        self._go_on(flow, ROOT, delay=delay)
        return flow

    def _write(self, flow: str, root: Frame, **fields: bytes) -> None:
        now = current_millis()
        whole = {
            ":total": b"%d" % count_leaves(root),
            ":created": b"%d" % now,
            ":state": RUNNING,
            **{f":{name}": value for name, value in fields.items()},
        }
        self.store.add(flow, now)
        self._write_frame(flow, ROOT, fields_of(root, ROOT), whole, {})

    def _write_frame(
        self,
        flow: str,
        frame: str,
        fields: Iterable[tuple[str, bytes]],
        last: dict[str, bytes],
        increments: dict[str, int],
    ) -> bool:
        """Write the fields of a frame unless it is there; what makes it one comes last."""
        expected = {f"{frame}:head": None}
        batch: dict[str, bytes | None] = {}
        size = 0
        for name, value in fields:
            if len(batch) >= BATCH or size >= BATCH_BYTES:
                if not self.store.change(flow, Change(expected, batch)):
                    return False
                batch, size = {}, 0
            batch[name] = value
            size += len(value)
        hit("workflows.write.before_last")
        return self.store.change(flow, Change(expected, {**batch, **last}, increments))

    def _go_on(self, flow: str, frame: str, *, delay: int | None = None) -> None:
        if self._driver.drive(flow, frame, delay=delay):
            self._climb(flow, frame)

    # -- arriving

    def arrive(self, arrivals: Sequence[Arrival]) -> list[Status]:
        """Record what became of messages, all in one round trip."""
        return self.store.arrive(arrivals)

    def advance(self, arrival: Arrival, status: Status) -> None:
        """Do what an arrival led to. It may be repeated, and has to be if it was interrupted."""
        flow, frame = arrival.flow, arrival.frame
        hit("workflows.advance.before")
        if status is Status.READY:
            self._go_on(flow, frame)
        elif status is Status.FAILED:
            # Before looking whether it still has failed: what is retried from now on shows.
            [epoch] = self.reader.fields(flow, ":epoch")
            error = self.reader.error(flow, frame, arrival.child)
            if error is not None:
                self._fail(flow, frame, arrival.child, error, epoch)
        elif status is Status.RECOVERED:
            self._recover(flow, frame)
        elif status is Status.GONE:
            self.logger.warning(
                "Workflow %s is not there any more; a message of it has just ended. Was it more "
                "than a week without progress, or deleted?",
                flow,
            )

    def settle(self, arrivals: Sequence[Arrival]) -> None:
        """Record arrivals and do what they lead to."""
        for arrival, status in zip(arrivals, self.arrive(arrivals), strict=True):
            if status is not Status.WAITING:
                self.advance(arrival, status)

    def expand(self, address: Address, node: Frame) -> None:
        """Put a frame in the place of a message, which has returned it."""
        frame = f"{address.frame}.{address.child}"
        increments = {":total": count_leaves(node) - 1}
        if self.reader.fields(address.flow, ":state")[0] is None:
            return
        fields = fields_of(node, frame, is_replacement=True)
        self._write_frame(address.flow, frame, fields, {}, increments)
        self._go_on(address.flow, frame)

    def stand_in(self, flow: str, node: Frame, then: dict[str, Any]) -> None:
        """Have a workflow take the place of a message that was part of none.

        Args:
            flow: The message's id, which becomes that of the workflow.
            node: What it has returned.
            then: What is to be done with the result, see `Ends`.
        """
        if self.reader.fields(flow, ":state")[0] is None:
            self._write(flow, node, then=encode(then))
        self._go_on(flow, ROOT)

    def extend(self, address: Address, nodes: Sequence[Node]) -> None:
        """Add children to the group that a message is part of, once per message."""
        found = self._group_of(address)
        if found is None:
            raise ValueError("The message is not part of a group.")
        marker = f"{address.frame}+{address.child}"
        while True:
            size, chunks, mark = self.reader.fields(
                address.flow, f"{found}:size", f"{found}:chunks", marker
            )
            if mark is not None or size is None or chunks is None:
                return
            batch = dict(chunk_of(nodes, found, int(chunks), int(size)))
            batch[f"{found}:size"] = b"%d" % (int(size) + len(nodes))
            batch[f"{found}:chunks"] = b"%d" % (int(chunks) + 1)
            batch[marker] = b"1"
            expected = {marker: None, f"{found}:size": size, f"{found}:chunks": chunks}
            total = sum(map(count_leaves, nodes))
            increments = {f"{found}:left": len(nodes), ":total": total}
            if self.store.change(address.flow, Change(expected, batch, increments)):
                break
        self._driver.drive(address.flow, found)

    def _group_of(self, address: Address) -> str | None:
        frame: str | None = address.frame
        while frame is not None:
            head = self.reader.head(address.flow, frame)
            if head is not None and not head.is_chain:
                return frame
            place = parent_of(frame)
            frame = None if place is None else place[0]
        return None

    # -- upwards

    def _climb(self, flow: str, frame: str) -> None:
        """Tell the parent of a frame that all its children are settled, and so on."""
        while True:
            self._ends.succeed(flow, frame)
            place = parent_of(frame)
            if place is None:
                return
            frame, index = place
            hit("workflows.climb.before")
            arrival = Arrival(flow, frame, index, FRAME, is_leaf=False)
            [status] = self.store.arrive([arrival])
            if status is Status.RECOVERED:
                self._recover(flow, frame)
                return
            if status is not Status.READY or not self._driver.drive(flow, frame):
                return

    def _fail(
        self, flow: str, frame: str, child: int, error: dict[str, Any], epoch: bytes | None
    ) -> None:
        """Tell the parent of a frame that a child of it failed, and so on.

        If that is taken back meanwhile by a retry, which begins another epoch, so is what was told.
        """
        while True:
            head = self.reader.head(flow, frame)
            if head is None:
                return
            self._ends.fail(flow, frame, child, epoch)
            place = parent_of(frame)
            if place is None:
                return
            inner = frame
            frame, child = place
            value = failure_value(head.failure, error)
            arrival = Arrival(flow, frame, child, value, is_leaf=False)
            [status] = self.store.arrive([arrival])
            if status is Status.READY:
                self._go_on(flow, frame)
            if status is not Status.FAILED:
                return
            if int(self.reader.fields(flow, f"{inner}:bad")[0] or 0) <= 0:
                self.store.arrive([Arrival(flow, frame, child, FORGOTTEN, is_leaf=False)])
                return

    def _fail_unsent(self, arrival: Arrival) -> None:
        """Have a message fail that could not be sent."""
        address = Address(arrival.flow, arrival.frame, arrival.child)
        self.logger.error(
            "Message %d of frame %s of workflow %s cannot be sent; it counts as failed: %s",
            address.child,
            address.frame,
            address.flow,
            decode(arrival.value[1:]),
        )
        self.settle([arrival])

    def _recover(self, flow: str, frame: str) -> None:
        """Take back the failure of a frame in which nothing has failed any more, and go on."""
        while True:
            bad, end = self.reader.fields(flow, f"{frame}:bad", f"{frame}:end")
            if int(bad or 0) > 0:
                return
            if end == b"failed":
                self.store.change(flow, Change({f"{frame}:end": end}, {f"{frame}:end": None}))
            place = parent_of(frame)
            if place is None:
                break
            frame, index = place
            self.store.arrive([Arrival(flow, frame, index, FORGOTTEN, is_leaf=False)])
        self.store.change(flow, Change({":state": b"failed"}, {":state": RUNNING, ":error": None}))
        self.resume(flow)

    def resume(self, flow: str, frame: str = ROOT) -> None:
        """Start what can be started anywhere in a workflow, after it had stood still."""
        if self._driver.drive(flow, frame):
            self._climb(flow, frame)
            return
        for index in self.open_children(flow, frame):
            self.resume(flow, f"{frame}.{index}")

    def restart(self, address: Address, fields: dict[str, Any], raw: bytes) -> bool:
        """Send a message of a workflow again that has failed or was not run.

        Args:
            address: Its place.
            fields: The message, as the workflow has it.
            raw: Its mark, that it was not run; False is returned if that has changed.
        """
        flow, frame, index = address.flow, address.frame, address.child
        message = self._driver.message_for(address, fields, self._driver.given(flow, frame, index))
        outgoing = self._driver.prepare(message, None)
        key = f"{frame}#{index}"
        return self._driver.send(flow, {key: raw}, {key: None}, [outgoing])

    def open_children(self, flow: str, frame: str) -> list[int]:
        """Return the children of a frame that are frames, have started, and are not settled."""
        head = self.reader.head(flow, frame)
        if head is None:
            return []
        if head.is_chain:
            position = int(self.reader.fields(flow, f"{frame}:pos")[0] or -1)
            # It may have been started before the position was moved.
            candidates = [each for each in (position, position + 1) if 0 <= each < head.size]
        else:
            candidates = list(range(self.reader.size(flow, frame, head)))
        names = [f"{frame}.{index}:head" for index in candidates]
        settled = self.reader.fields(flow, *(f"{frame}#{index}" for index in candidates))
        heads = self.reader.fields(flow, *names)
        return [
            index
            for index, raw, data in zip(candidates, settled, heads, strict=True)
            if data is not None and not is_settled(raw)
        ]

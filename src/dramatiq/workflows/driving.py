"""Starts what is next in a frame."""

from __future__ import annotations

import time
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ..common import current_millis
from ..errors import BrokerConnectionError
from ..failpoints import hit
from ..message import generate_unique_id, message_of
from .errors import error_of
from .nodes import Address, Head, encode
from .policies import OPTION
from .reading import Chunk, Input, Reader, is_settled
from .rules import FAILED, FRAME, RUNNING
from .store import Arrival, Change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..delivery import Envelope
    from ..message import Message
    from .store import WorkflowStore

    Preparer = Callable[[Message[Any], int | None], Envelope]

__all__ = ["Driver", "Outgoing"]

#: Most bytes of messages stored by one step, so that it takes no longer than some milliseconds.
BATCH_BYTES = 4 * 1024 * 1024
#: The field of whoever sends messages of a workflow that are not stored in one step with it.
CLAIM = ":claim"
#: Milliseconds after which a claim is taken over: its owner is dead, or very slow.
CLAIM_TTL = 10_000
#: Says that somebody else has it.
WAIT = b""
#: Seconds between two looks at somebody else's claim.
CLAIM_PAUSE_S = 0.01


class Outgoing:
    """A message to be sent, with its delay; as an envelope where the store takes it."""

    __slots__ = ("delay", "envelope", "message", "size")

    def __init__(
        self, message: Message[Any], delay: int | None, envelope: Envelope | None = None
    ) -> None:
        self.message = message
        self.delay = delay
        self.envelope = envelope
        self.size = 0 if envelope is None else len(envelope.payload)


class Driver:
    """Starts steps and children.

    Args:
        broker: The broker that messages are sent with.
        store: The store.
        on_failed: Called with an arrival that says that a message could not be sent.
    """

    def __init__(
        self, broker: Any, store: WorkflowStore, on_failed: Callable[[Arrival], None]
    ) -> None:
        self._broker = broker
        self._store = store
        self._on_failed = on_failed
        self.reader = Reader(store)

    def drive(
        self, flow: str, frame: str, given: Input | None = None, delay: int | None = None
    ) -> bool:
        """Start what can be started now; tell whether all children are settled.

        Args:
            flow: The workflow.
            frame: The frame.
            given: What its first steps are given.
            delay: Milliseconds before they may run.
        """
        head = self.reader.head(flow, frame)
        if head is None:
            return False
        given = given or Input(self.reader, flow, frame)
        if head.is_chain:
            return self._drive_chain(flow, frame, head, given, delay)
        return self._drive_group(flow, frame, given, delay)

    def _drive_chain(
        self, flow: str, frame: str, head: Head, given: Input, delay: int | None
    ) -> bool:
        while True:
            position = int(self.reader.fields(flow, f"{frame}:pos")[0] or -1)
            if position >= 0:
                [raw] = self.reader.raw(flow, frame, position, 1)
                if not is_settled(raw):
                    return False
                given, delay = Input(self.reader, flow, frame, position), None
            if position + 1 >= head.size:
                return True
            chunk = self.reader.chunk(flow, frame, position + 1)
            messages = self._start(flow, frame, chunk, 0, given, delay)
            expected = {f"{frame}:pos": b"%d" % position}
            values = {f"{frame}:pos": b"%d" % (position + 1)}
            if not self.send(flow, expected, values, messages) and not self._is_running(flow):
                return False

    def _drive_group(self, flow: str, frame: str, given: Input, delay: int | None) -> bool:
        while True:
            position, count, left = self.reader.fields(
                flow, f"{frame}:pos", f"{frame}:chunks", f"{frame}:left"
            )
            number, _, offset = (position or b"0").decode().partition(".")
            if int(number) >= int(count or 0):
                return int(left or 0) <= 0
            chunk = self.reader.chunk(flow, frame, int(number))
            messages = self._start(flow, frame, chunk, int(offset or 0), given, delay)
            reached = int(offset or 0) + len(messages)
            is_through = reached >= len(chunk.specs)
            following = f"{int(number) + 1}" if is_through else f"{number}.{reached}"
            expected = {f"{frame}:pos": position}
            values: dict[str, bytes | None] = {f"{frame}:pos": following.encode()}
            if not self.send(flow, expected, values, messages) and not self._is_running(flow):
                return False

    def _is_running(self, flow: str) -> bool:
        return self.reader.fields(flow, ":state")[0] == RUNNING

    def _start(
        self,
        flow: str,
        frame: str,
        chunk: Chunk,
        offset: int,
        given: Input,
        delay: int | None,
    ) -> list[Outgoing | None]:
        """Start the frames among some children and prepare the messages among them.

        Returns:
            For each child from the offset on its message, None for what needs none; fewer than
            there are if they are too large for one step.
        """
        messages: list[Outgoing | None] = []
        preparer = self.preparer()
        size = 0
        for index, (failure, fields) in enumerate(chunk.specs[offset:], chunk.first + offset):
            if fields is None:
                self._start_frame(flow, frame, index, given, delay)
                messages.append(None)
                continue
            message = self.message_for(Address(flow, frame, index, failure), fields, given)
            outgoing = self.prepare(message, delay, preparer)
            messages.append(outgoing)
            size += outgoing.size if outgoing else 0
            if size >= BATCH_BYTES:
                break
        return messages

    def _start_frame(
        self, flow: str, frame: str, index: int, given: Input, delay: int | None
    ) -> None:
        if self.drive(flow, f"{frame}.{index}", given, delay):
            # Nothing to wait for. Its parent looks for that afterwards.
            self._store.arrive([Arrival(flow, frame, index, FRAME, is_leaf=False)])

    def given(self, flow: str, frame: str, index: int) -> Input:
        """Return what a child is given."""
        head = self.reader.head(flow, frame)
        before = index - 1 if head is not None and head.is_chain and index else None
        return Input(self.reader, flow, frame, before)

    def message_for(
        self, address: Address, fields: Mapping[str, Any], given: Input
    ) -> Message[Any]:
        """Return the message of a place, with the result it is given."""
        options = {**fields["options"], OPTION: address.option()}
        args = fields["args"]
        if not options.get("pipe_ignore"):
            args = (*args, *given.values())
        return message_of({**fields, "args": args, "options": options})

    def prepare(
        self, message: Message[Any], delay: int | None, prepare: Preparer | None = None
    ) -> Outgoing | None:
        """Return a message that is ready to be sent; None if it never can be.

        Args:
            message: The message.
            delay: Milliseconds before it may run; its own delay counts too.
            prepare: What `preparer` returned, for many messages.
        """
        own = message.options.get("delay")
        longest = max(delay or 0, own or 0) or None
        prepare = prepare or self.preparer()
        try:
            return Outgoing(message, longest, prepare and prepare(message, longest))
        except BrokerConnectionError:
            raise
        except Exception as error:
            self._refuse(message, error)
            return None

    def preparer(self) -> Preparer | None:
        """Return what makes envelopes of messages, where the store takes them."""
        if not self._store.stores_messages:
            return None
        preparer: Preparer = self._broker.preparer()
        return preparer

    def _refuse(self, message: Message[Any], error: Exception) -> None:
        """Have a message that cannot be sent count as failed."""
        address = Address.of(message.options)
        if address is None:
            self._broker.logger.error(
                "Message %s cannot be sent; it is dropped.", message, exc_info=error
            )
            return
        value = FAILED + encode(error_of(message, error))
        self._on_failed(Arrival(address.flow, address.frame, address.child, value))

    def send(
        self,
        flow: str,
        expected: Mapping[str, bytes | None],
        values: Mapping[str, bytes | None],
        messages: Sequence[Outgoing | None],
        **options: Any,
    ) -> bool:
        """Send messages and write fields if others are as expected and the workflow goes on."""
        change = Change({":state": RUNNING, **expected}, values, **options)
        outgoing = [each for each in messages if each is not None]
        hit("workflows.send.before")
        if not self._store.stores_messages:
            return self._send_apart(flow, change, outgoing)
        envelopes = [each.envelope for each in outgoing if each.envelope is not None]
        is_changed = self._store.change(flow, change, envelopes)
        hit("workflows.send.after")
        if is_changed:
            self._broker.announce_stored(envelopes)
        return is_changed

    def _send_apart(self, flow: str, change: Change, outgoing: Sequence[Outgoing]) -> bool:
        """Send first: a helper that dies between the two steps sends twice rather than never.

        The copy has the same place, where only the first to arrive counts. Helpers that live do
        it one after the other: a claim keeps others waiting, who go on if it gets old.
        """
        if not outgoing:
            return self._store.change(flow, change)
        while (claim := self._claim(flow, change)) == WAIT:
            time.sleep(CLAIM_PAUSE_S)
        if claim is None:
            return False
        refused: list[tuple[Message[Any], Exception]] = []
        for delay, group in groupby(outgoing, key=attrgetter("delay")):
            refused += self._enqueue([each.message for each in group], delay)
        hit("workflows.send.between")
        # Even if somebody took the claim over: what was sent is sent.
        values = {**change.values, CLAIM: None}
        is_changed = self._store.change(
            flow, Change(change.expected, values, change.increments, change.ttl)
        )
        if not is_changed:
            # Cancelled meanwhile, for example. Nobody is to wait for us.
            self._store.change(flow, Change({CLAIM: claim}, {CLAIM: None}))
        for message, error in refused:
            self._refuse(message, error)
        return is_changed

    def _claim(self, flow: str, change: Change) -> bytes | None:
        """Try to be the one who sends.

        Returns:
            The claim; `WAIT` if somebody else has one; None if there is nothing to send any more.
        """
        names = list(change.expected)
        *found, present = self._store.read(flow, [*names, CLAIM])
        if found != list(change.expected.values()):
            return None
        now = current_millis()
        if present is not None and int(present.split()[1]) > now:
            return WAIT
        claim = f"{generate_unique_id()} {now + CLAIM_TTL}".encode()
        expected = {**change.expected, CLAIM: present}
        return claim if self._store.change(flow, Change(expected, {CLAIM: claim})) else WAIT

    def _enqueue(
        self, messages: list[Message[Any]], delay: int | None
    ) -> list[tuple[Message[Any], Exception]]:
        """Enqueue messages; return those that never can be, and why."""
        try:
            self._broker.enqueue_many(messages, delay=delay)
        except BrokerConnectionError:
            raise
        except Exception as error:
            if len(messages) == 1:
                return [(messages[0], error)]
            # One of them. Those that were stored are stored again, which does no harm.
            return [refused for each in messages for refused in self._enqueue([each], delay)]
        return []

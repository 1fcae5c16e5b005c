"""What follows the end of a frame, and of a workflow: once, however many helpers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..failpoints import hit
from ..message import Message
from .errors import describe
from .nodes import ROOT, decode, encode
from .rules import FAILED
from .store import FINISHED_TTL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .driving import Driver, Outgoing

__all__ = ["Ends"]


class _Failed(Exception):
    """Stands for the error of a workflow where an exception is stored."""


class Ends:
    """Sends what is to follow.

    A workflow that stands in for a message says in its field ``:then`` what to do with its
    result: ``message`` (the message it stands for), ``ttl`` (milliseconds to keep the result as
    that message's, None not to), ``target`` (the message to run next, if any), ``is_piped``, and
    ``group`` (where it is to be counted in, if it is a member of a group with callbacks).

    Args:
        broker: The broker.
        driver: Sends messages.
    """

    def __init__(self, broker: Any, driver: Driver) -> None:
        self._broker = broker
        self._driver = driver
        self._reader = driver.reader

    def succeed(self, flow: str, frame: str) -> None:
        """Send what follows the success of a frame."""
        head = self._reader.head(flow, frame)
        end, then = self._reader.fields(flow, f"{frame}:end", ":then")
        if head is None or end is not None:
            return
        if frame != ROOT and not (head.on_success or head.callbacks):
            return
        messages = self._messages(head.on_success, lambda: self._reader.frame_value(flow, frame))
        messages += [self._prepare(fields) for fields in head.callbacks]
        if frame == ROOT and then is not None:
            messages += self._deliver(flow, decode(then))
        self._finish(flow, frame, b"done", {}, messages, {})

    def fail(self, flow: str, frame: str, child: int, epoch: bytes | None) -> None:
        """Send what follows the failure of a frame, if the child still has failed.

        Args:
            flow: The workflow.
            frame: The frame.
            child: The child that failed.
            epoch: How often the workflow had been retried when that was found.
        """
        key = f"{frame}#{child}"
        [raw] = self._reader.fields(flow, key)
        if raw is None or raw[:1] != FAILED:
            return
        error = decode(raw[1:])
        head = self._reader.head(flow, frame)
        end, then = self._reader.fields(flow, f"{frame}:end", ":then")
        if head is None or end is not None or (frame != ROOT and not head.on_failure):
            return
        messages = self._messages(head.on_failure, lambda: error)
        if frame == ROOT and then is not None:
            self._deliver_failure(decode(then), error)
        self._finish(
            flow, frame, b"failed", {":error": encode(error)}, messages, {key: raw, ":epoch": epoch}
        )

    def _finish(
        self,
        flow: str,
        frame: str,
        state: bytes,
        values: dict[str, bytes | None],
        messages: Sequence[Outgoing | None],
        cause: dict[str, bytes | None],
    ) -> None:
        hit("workflows.finish.before")
        expected: dict[str, bytes | None] = {f"{frame}:end": None, **cause}
        changes: dict[str, bytes | None] = {f"{frame}:end": state}
        if frame != ROOT:
            self._driver.send(flow, expected, changes, messages)
            return
        changes = {**changes, **values, ":state": state}
        # A failed one may go on as long as its dead letters are kept.
        options = {"ttl": FINISHED_TTL} if state == b"done" else {}
        self._driver.send(flow, expected, changes, messages, **options)

    def _messages(
        self, followers: Sequence[dict[str, Any]], read: Callable[[], Any]
    ) -> list[Outgoing | None]:
        if not followers:
            return []
        value = read()
        return [self._prepare(fields, value) for fields in followers]

    def _prepare(self, fields: dict[str, Any], *values: Any) -> Outgoing | None:
        message: Message[Any] = Message(**fields)
        if values and not message.options.get("pipe_ignore"):
            message = message.copy(args=(*message.args, *values))
        return self._driver.prepare(message, None)

    def _deliver(self, flow: str, then: dict[str, Any]) -> list[Outgoing | None]:
        """Store the result as that of the message it stands for; return what is to run next."""
        value = self._reader.frame_value(flow, ROOT)
        if then["ttl"] is not None:
            backend = self._broker.get_results_backend()
            backend.store_result(Message(**then["message"]), value, then["ttl"])
        messages = self._count_in(then["group"]) if then["group"] else []
        if then["target"] is not None:
            messages.append(self._prepare(then["target"], *((value,) if then["is_piped"] else ())))
        return messages

    def _count_in(self, group: dict[str, Any]) -> list[Outgoing | None]:
        """Count the message in at its group; return the callbacks if it was the last."""
        for middleware in self._broker.middleware:
            count_in = getattr(middleware, "count_in", None)
            if count_in is not None and count_in(group["barrier"], group["member"]):
                return [self._prepare(fields) for fields in group["callbacks"]]
        return []

    def _deliver_failure(self, then: dict[str, Any], error: dict[str, Any]) -> None:
        if then["ttl"] is not None:
            backend = self._broker.get_results_backend()
            failure = _Failed(describe(error))
            backend.store_exception(Message(**then["message"]), failure, then["ttl"])

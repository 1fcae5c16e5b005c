"""Messages as bytes, and the bytes on their way at once.

pika writes each of a message's three frames by itself, and only after another round of its loop.
Here all that is to be published goes out in one piece, and now. That takes names of pika's that are
not public: where a release has others, messages go its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pika import frame, spec  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .publisher import Outgoing

__all__ = ["Writer"]

#: Bytes of a frame that are not its content.
FRAME_OVERHEAD = 8
#: pika's method that takes frames as bytes.
OUTPUT = "_output_marshaled_frames"
#: Most queues whose frames are kept.
MAX_KEPT = 1000


class Writer:
    """Publishes on one channel. For the session's thread.

    Args:
        connection: pika's connection.
        channel: pika's channel.
    """

    def __init__(self, connection: Any, channel: Any) -> None:
        self._connection = connection
        self._channel = channel
        self._max_piece = connection.params.frame_max - FRAME_OVERHEAD
        self._put = getattr(connection, OUTPUT, None)
        #: By queue and whether it must be there: how each message for it begins.
        self._beginnings: dict[tuple[str, bool], bytes] = {}

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages, in their order."""
        if self._put is None:
            for each in messages:
                self._channel.basic_publish(
                    "", each.queue_name, each.body, each.properties(), each.is_mandatory
                )
            return
        if not self._channel.is_open:
            self._channel.basic_publish("", "", b"")  # pika knows what to raise
        self._put([b"".join(piece for each in messages for piece in self._frames_of(each))])
        transport: Any = getattr(self._connection, "_transport", None)
        send_now = getattr(transport, "_on_socket_writable", None)
        # It is pika's own answer to a socket that can take something, which ours nearly always can.
        if send_now is not None and transport.get_write_buffer_size():
            send_now()

    def _frames_of(self, message: Outgoing) -> list[bytes]:
        number, body = self._channel.channel_number, message.body
        pieces = [
            self._beginning_of(message),
            frame.Header(number, len(body), message.properties()).marshal(),
        ]
        pieces += [
            frame.Body(number, body[start : start + self._max_piece]).marshal()
            for start in range(0, len(body), self._max_piece)
        ]
        return pieces

    def _beginning_of(self, message: Outgoing) -> bytes:
        key = (message.queue_name, message.is_mandatory)
        kept = self._beginnings.get(key)
        if kept is None:
            if len(self._beginnings) >= MAX_KEPT:
                self._beginnings.clear()
            method = spec.Basic.Publish(
                exchange="", routing_key=message.queue_name, mandatory=message.is_mandatory
            )
            kept = frame.Method(self._channel.channel_number, method).marshal()
            self._beginnings[key] = kept
        return kept

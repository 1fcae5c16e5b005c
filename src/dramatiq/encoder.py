"""How message data becomes bytes and back."""

from __future__ import annotations

import abc
import json
from typing import Any, TypeAlias

from .errors import DecodeError

__all__ = ["Encoder", "JSONEncoder", "MessageData", "PickleEncoder"]

#: What an encoder takes and gives: a mapping of strings to values.
MessageData: TypeAlias = dict[str, Any]

# Built once: json.dumps with separators would build an encoder at every call.
_encode_json = json.JSONEncoder(separators=(",", ":")).encode
_decode_json = json.JSONDecoder().decode


class Encoder(abc.ABC):
    """Turns message data into bytes and back. Must be safe to use from any thread."""

    @abc.abstractmethod
    def encode(self, data: MessageData) -> bytes:
        """Turn ``data`` into bytes.

        Raises:
            TypeError: If a value cannot be encoded.
        """

    @abc.abstractmethod
    def decode(self, data: bytes) -> MessageData:
        """Turn bytes back into data.

        Raises:
            DecodeError: If they are not what `encode` makes.
        """


class JSONEncoder(Encoder):
    """The default: compact ASCII JSON in UTF-8, readable from every language."""

    def encode(self, data: MessageData) -> bytes:
        """Turn ``data`` into JSON without white space."""
        return _encode_json(data).encode("utf-8")

    def decode(self, data: bytes) -> MessageData:
        """Turn JSON back into data; bad UTF-8 and bad JSON raise `DecodeError`."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError(f"failed to decode data {data!r}", data, error) from None
        try:
            decoded: MessageData = _decode_json(text)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"failed to decode message {text!r}", text, error) from None
        return decoded


class PickleEncoder(Encoder):
    """Pickle: any Python object, but whoever can write to the broker can run code in the workers.

    Use it only where producers, broker and workers trust one another.
    """

    def encode(self, data: MessageData) -> bytes:
        """Pickle ``data``."""
        import pickle  # only here: most applications never need it

        return pickle.dumps(data)

    def decode(self, data: bytes) -> MessageData:
        """Unpickle ``data``."""
        import pickle

        unpickled: MessageData = pickle.loads(data)  # noqa: S301 (what this encoder is for)
        return unpickled

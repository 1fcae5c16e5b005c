"""The contract of result backends: keys, waiting, and the two hooks a store implements."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..common import compute_backoff, q_name
from ..message import get_encoder
from .errors import ResultMissing, ResultTimeout
from .result import unwrap_result, wrap_exception, wrap_result

if TYPE_CHECKING:
    from ..delivery import FollowUps
    from ..encoder import Encoder
    from ..message import Message

__all__ = [
    "BACKOFF_FACTOR",
    "DEFAULT_TIMEOUT",
    "MResult",
    "Missing",
    "Result",
    "ResultBackend",
    "ResultMissing",
    "ResultTimeout",
    "compute_backoff",
]

#: Milliseconds a blocking read waits when it is not told how long.
DEFAULT_TIMEOUT = 10_000
#: Milliseconds of the first pause between two looks; later ones double.
BACKOFF_FACTOR = 100


class _MissingType(enum.Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return "Missing"


#: Stands for "there is no result", because None is one.
Missing: Final = _MissingType.MISSING

#: What an actor may return.
Result: TypeAlias = Any
#: A result, or `Missing`.
MResult: TypeAlias = Result | _MissingType


class ResultBackend:
    """Base class of result backends; subclasses implement `_get` and `_store`.

    May be used from any thread.

    Args:
        namespace: Start of every key.
        encoder: Turns results into bytes; by default the messages' encoder as it is now.
        use_namespace_prefix_keys: Whether to store results under readable keys instead of hashed
            ones. Writers and readers must agree.
    """

    def __init__(
        self,
        *,
        namespace: str = "dramatiq-results",
        encoder: Encoder | None = None,
        use_namespace_prefix_keys: bool = False,
    ) -> None:
        self.namespace = namespace
        self.encoder = encoder or get_encoder()
        self.use_namespace_prefix_keys = use_namespace_prefix_keys

    def get_result(
        self, message: Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Result:
        """Return the result of ``message``.

        Waiting means to look again and again, at growing intervals.

        Args:
            message: The message.
            block: Whether to wait for the result.
            timeout: Milliseconds to wait; None means 10 seconds.

        Raises:
            ResultMissing: If there is none and ``block`` is False.
            ResultTimeout: If there is none in time; up to one interval early.
            ResultFailure: If the actor failed for good.
        """
        timeout = DEFAULT_TIMEOUT if timeout is None else timeout
        deadline_s = time.monotonic() + timeout / 1000
        message_key = self.build_message_key(message)
        attempts = 0
        while (result := self._get(message_key)) is Missing:
            if not block:
                raise ResultMissing(message)
            attempts, pause = compute_backoff(attempts, factor=BACKOFF_FACTOR)
            if time.monotonic() + pause / 1000 > deadline_s:
                raise ResultTimeout(message)
            time.sleep(pause / 1000)
        return self.unwrap_result(result)

    def store_result(self, message: Message[Any], result: Result, ttl: int) -> None:
        """Store what the actor returned for ``message``.

        Args:
            message: The message.
            result: Any value the encoder takes; None is a result like any other.
            ttl: Milliseconds to keep it.

        Raises:
            TypeError: If the encoder does not take the value.
        """
        self._store(self.build_message_key(message), wrap_result(result), ttl)

    def store_exception(self, message: Message[Any], exception: BaseException, ttl: int) -> None:
        """Store that ``message`` failed for good.

        Args:
            message: The message.
            exception: What the actor raised; its type's name and its text are kept.
            ttl: Milliseconds to keep it.
        """
        self._store(self.build_message_key(message), wrap_exception(exception), ttl)

    def may_block(self, follow_ups: FollowUps) -> bool:
        """Tell whether storing a result inside ``follow_ups`` may wait for I/O.

        Such writes are kept off event loops. A backend whose writes join the settlement of the
        message, or stay in memory, says False.
        """
        return True

    def unwrap_result(self, res: Any) -> Result:
        """Turn what `_get` returned into the actor's result.

        Raises:
            ResultFailure: If it stands for an exception.
        """
        return unwrap_result(res)

    def build_message_key(self, message: Message[Any]) -> str:
        """Return the key of a message's result.

        It depends on fields that never change, so any process can compute it, and it is the same
        while the message waits in a delay queue.
        """
        key = (
            f"{self.namespace}:{q_name(message.queue_name)}:"
            f"{message.actor_name}:{message.message_id}"
        )
        if self.use_namespace_prefix_keys:
            return key
        import hashlib  # loads OpenSSL, and programs without results need none of it

        return hashlib.md5(key.encode("utf-8"), usedforsecurity=False).hexdigest()

    def _get(self, message_key: str) -> MResult:
        """Return what is stored under a key, decoded, or `Missing`."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _get()")

    def _store(self, message_key: str, result: Result, ttl: int) -> None:
        """Store a value, still to be encoded, under a key for ``ttl`` milliseconds."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _store()")

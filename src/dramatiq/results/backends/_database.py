"""What backends have in common that keep results in a database, which a broker may use too."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from ...delivery import current_follow_ups
from .. import backend as settings
from ..backend import Missing, ResultBackend
from ..errors import ResultTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...delivery import FollowUps
    from ...message import Message
    from ..backend import Result

__all__ = ["ROWS_PER_SWEEP", "DatabaseBackend"]

#: How much longer each pause of a waiting reader is than the one before.
PAUSE_GROWTH = 1.25
#: One write in so many deletes expired results too, up to the second number: four times as many
#: as are stored meanwhile, so that they cannot pile up, and few enough not to hold others up.
WRITES_PER_SWEEP = 16
ROWS_PER_SWEEP = 64


class DatabaseBackend(ResultBackend):
    """Base class of backends in databases.

    In the database of the broker that runs the message, a result is stored in one transaction
    with its acknowledgement: there is never one without the other.

    Args:
        database: The database.
        options: See `ResultBackend`.
    """

    #: Seconds between two looks of a waiting reader: the first pause, and the longest.
    first_pause_s: ClassVar[float]
    longest_pause_s: ClassVar[float]

    def __init__(self, database: Any, **options: Any) -> None:
        super().__init__(**options)
        self.database = database
        self._writes = count()

    def _writer(
        self, message_key: str, value: bytes, ttl: int, *, sweeps: bool
    ) -> Callable[[Any], None]:
        """Return what stores a result in a transaction, and deletes some that have expired."""
        raise NotImplementedError

    def _write(self, store: Callable[[Any], None]) -> None:
        """Store a result by itself."""
        raise NotImplementedError

    def get_result(
        self, message: Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Result:
        """Return the result of ``message``; see `ResultBackend.get_result`.

        A blocking read waits for its whole timeout, and sees a result within a tenth of a second.
        """
        if not block:
            return super().get_result(message)
        timeout = settings.DEFAULT_TIMEOUT if timeout is None else timeout
        deadline_s = time.monotonic() + timeout / 1000
        message_key = self.build_message_key(message)
        pause_s = self.first_pause_s
        while (result := self._get(message_key)) is Missing:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise ResultTimeout(message)
            time.sleep(min(pause_s, remaining_s))
            pause_s = min(pause_s * PAUSE_GROWTH, self.longest_pause_s)
        return self.unwrap_result(result)

    def may_block(self, follow_ups: FollowUps) -> bool:
        """Tell whether storing waits for the database: not if the settlement takes it along."""
        return not self._joins(follow_ups)

    def _joins(self, follow_ups: FollowUps | None) -> bool:
        if follow_ups is None or not follow_ups.collects:
            return False
        return getattr(follow_ups.store, "database", None) is self.database

    def _store(self, message_key: str, result: Result, ttl: int) -> None:
        sweeps = next(self._writes) % WRITES_PER_SWEEP == 0
        store = self._writer(message_key, self.encoder.encode(result), ttl, sweeps=sweeps)
        follow_ups = current_follow_ups()
        if follow_ups is not None and self._joins(follow_ups):
            follow_ups.operations.append((self.database, store))
        else:
            self._write(store)

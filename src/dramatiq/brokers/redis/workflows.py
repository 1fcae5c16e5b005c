"""Workflows on the broker's server: they go on in one step with their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...workflows.stores.redis import CHANGE_TEXT, RedisStore
from .scripts import storing
from .settling import stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...delivery import Envelope
    from .broker import RedisBroker

__all__ = ["BrokerStore"]


class BrokerStore(RedisStore):
    """Keeps workflows in the namespace of a broker.

    Args:
        broker: The broker.
    """

    stores_messages = True

    def __init__(self, broker: RedisBroker) -> None:
        super().__init__(broker.client, broker.namespace, links=broker.links)
        self._layout = broker.layout
        self._script = storing("change", CHANGE_TEXT)

    def _run_change(
        self, keys: list[bytes], arguments: list[object], envelopes: Sequence[Envelope]
    ) -> bool:
        queues, messages = stored(envelopes, self._layout)
        call = (self._script, (*keys, *queues), (*arguments, *messages))
        return bool(self._links.run([call])[0])

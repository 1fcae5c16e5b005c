"""Results in Redis, laid out as 2.x does, so that fleets of both read each other's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...delivery import current_follow_ups
from ...redis import Script, Store, make_client
from .. import backend as settings
from ..backend import Missing, ResultBackend
from ..errors import ResultTimeout

if TYPE_CHECKING:
    from ...delivery import FollowUps
    from ...encoder import Encoder
    from ...message import Message
    from ...workflows.store import WorkflowStore
    from ..backend import MResult, Result

__all__ = ["RedisBackend"]

_STORE = Script.load(Path(__file__).parent / "redis_scripts", "store")

#: The namespace of workflows that are kept beside results and rate limits; in a cluster its keys
#: are on one node.
WORKFLOWS_NAMESPACE = "{dramatiq-workflows}"


class Write(NamedTuple):
    """A result that is ready to be stored, now or with the settlement of its message."""

    key: bytes
    value: bytes
    #: Milliseconds to keep it.
    ttl: int


class RedisBackend(ResultBackend):
    """Keeps results in Redis: each a list of one element, which any number of readers wait for.

    On the server of the broker that runs the message, a result is stored in one round trip with
    its acknowledgement, and dropped if the message was given to another worker meanwhile.

    Errors of the connection leave as `BrokerConnectionError`, which are errors of the ``redis``
    package too.

    Args:
        client: A client of the ``redis`` package to use, for one server, a cluster or sentinels.
        url: Where the server is if there is no client: ``redis://``, ``rediss://`` or
            ``unix://``.
        namespace: See `ResultBackend`.
        encoder: See `ResultBackend`.
        use_namespace_prefix_keys: See `ResultBackend`.
        parameters: Further arguments of ``redis.Redis``, where there is no client.

    Attributes:
        client: The client in use.
    """

    def __init__(
        self,
        *,
        namespace: str = "dramatiq-results",
        encoder: Encoder | None = None,
        use_namespace_prefix_keys: bool = False,
        client: Any = None,
        url: str | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(
            namespace=namespace,
            encoder=encoder,
            use_namespace_prefix_keys=use_namespace_prefix_keys,
        )
        self.client: Any = make_client(client=client, url=url, **parameters)
        self._server = Store(self.client)

    def get_result(
        self, message: Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Result:
        """Return the result of ``message``.

        A blocking read is woken by the server when there is a result. It waits for its whole
        timeout, also where the connection is lost and comes back meanwhile.

        Args:
            message: The message.
            block: Whether to wait for the result.
            timeout: Milliseconds to wait; None means 10 seconds.

        Raises:
            ResultMissing: If there is none and ``block`` is False.
            ResultTimeout: If there is none in time.
            ResultFailure: If the actor failed for good.
            BrokerConnectionError: If the server cannot be asked; for a blocking read: if it still
                cannot when the time is over.
        """
        if not block:
            return super().get_result(message)
        timeout = settings.DEFAULT_TIMEOUT if timeout is None else timeout
        deadline_s = time.monotonic() + timeout / 1000
        data = self._server.wait_for_first(self.build_message_key(message), deadline_s)
        if data is None:
            raise ResultTimeout(message)
        return self.unwrap_result(self.encoder.decode(data))

    def _get(self, message_key: str) -> MResult:
        data = self._server.first(message_key)
        return Missing if data is None else self.encoder.decode(data)

    def _store(self, message_key: str, result: Result, ttl: int) -> None:
        write = Write(message_key.encode(), self.encoder.encode(result), ttl)
        follow_ups = current_follow_ups()
        if follow_ups is not None and self._joins(follow_ups):
            follow_ups.operations.append((self, write))
        else:
            self.write(write)

    def write(self, write: Write) -> None:
        """Store a result now."""
        self._server.run(_STORE, [write.key.decode()], write.value, write.ttl)

    def may_block(self, follow_ups: FollowUps) -> bool:
        """Tell whether storing waits for the server: not if the settlement takes it along."""
        return not self._joins(follow_ups)

    def _joins(self, follow_ups: FollowUps) -> bool:
        if not follow_ups.collects:
            return False
        shares = getattr(follow_ups.store, "shares_server_with", None)
        return shares is not None and shares(self.client)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.redis import RedisStore  # few applications have workflows

        return RedisStore(self.client, WORKFLOWS_NAMESPACE)

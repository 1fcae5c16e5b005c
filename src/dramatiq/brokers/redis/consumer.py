"""Hands out the messages of one queue and settles them. Belongs to one thread, but for `wake`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...broker import Consumer, MessageProxy
from ...common import compute_backoff, current_millis, q_name
from ...delivery import Envelope, FollowUps, Outcome, Settlement
from ...errors import BrokerConnectionError, ConnectionClosed, DecodeError
from ...failpoints import hit
from ...logging import get_logger
from ...redis import Link, explain, is_passing
from .._store import decode, printable
from .bell import Bell
from .delays import Delays, eta_of
from .scanning import find_id
from .scripts import load
from .settling import GONE, MOVED, Settling, keeping

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...message import Message
    from .broker import RedisBroker

__all__ = ["RedisConsumer"]

#: Most messages taken by one call: half of what Lua's `unpack` takes at least, and few enough
#: for the call to be over in about a millisecond.
MAX_BATCH = 1000
#: Seconds between two comparisons of what the store says we hold with what we hold.
RECONCILE_S = 10.0
#: Seconds after which a difference that was found must be found again to count.
CONFIRM_S = 1.0
#: Seconds not to listen after others were faster: all who wait at a list are woken by each message,
#: which would cost a busy fleet more than the messages do. Short beside what a message may wait.
LOST_RACE_S = 0.002
#: Seconds not to listen after messages were taken, while some of them are out: most are settled by
#: then, which takes what has arrived along in the same round trip.
GATHER_S = 0.001
#: Seconds between two looks at whether a queue is still paused. A list that has something in it
#: answers whoever listens at once, so nobody listens meanwhile.
PAUSED_LOOK_S = 0.5
#: What is taken from a queue that is paused.
PAUSED = 0


class RedisConsumer(Consumer):
    """Consumes one queue; or cares for a delay queue, whose messages it hands to nobody.

    Args:
        broker: The broker.
        queue_name: The queue.
        prefetch: How many messages `__next__` hands out at a time.
        timeout: Milliseconds `__next__` waits.
    """

    is_owned = True
    #: Looking up the server's address, connecting, and a client of the user's that repeats it.
    longest_call_s = 90.0

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.logger = get_logger("dramatiq.brokers.redis", type(self))
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout = timeout
        self.misses = 0
        #: The worker under whose name it leases.
        self.worker = broker.broker_id
        self._layout = broker.layout
        self._keys = broker.layout.queue(queue_name)
        self._acks = broker.layout.acks(self.worker, queue_name)
        self._link = Link(broker.client, self._keys.ids)
        self._bell = Bell(broker.client, self._keys.ids)
        self._delays = Delays(self) if queue_name != q_name(queue_name) else None
        self.hands_out = self._delays is None
        #: What was handed out and not settled, by id. The object itself tells one delivery from
        #: another of the same message: only the latest can be settled.
        self._held: dict[bytes, MessageProxy] = {}
        #: What `__next__` has fetched and not handed out.
        self._cache: list[MessageProxy] = []
        #: Settled by a call whose answer was lost.
        self._in_doubt: set[bytes] = set()
        self._unknown: set[bytes] = set()
        self._reconcile_at = time.monotonic() + RECONCILE_S
        #: Whether the last fetch left nothing behind.
        self._is_drained = False
        self._is_lost = False
        self._has_joined = False
        #: When messages were last taken, by the monotonic clock.
        self._taken_at = 0.0

    # -- the contract of 2.x

    @property
    def outstanding_message_count(self) -> int:
        """How many messages were fetched and not settled."""
        return len(self._held)

    def __next__(self) -> MessageProxy | None:
        """Return the next message; None if there is none or ``prefetch`` of them are out."""
        if not self._cache and len(self._held) < self.prefetch:
            payloads = self._try(
                self.broker.do_fetch, self.queue_name, self.prefetch - len(self._held)
            )
            self._cache = self._receive([(None, payload) for payload in payloads])
        if self._cache:
            self.misses = 0
            return self._cache.pop(0)
        self.misses, pause_ms = compute_backoff(self.misses, max_backoff=self.timeout)
        time.sleep(pause_ms / 1000)
        return None

    def ack(self, message: MessageProxy) -> None:
        """Remove a message for good; harmless for one that is not held."""
        self._settle_one(self.broker.do_ack, message)

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters; harmless for one that is not held."""
        self._settle_one(self.broker.do_nack, message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back to the front of the queue, in order."""
        settlements = [Settlement(message, Outcome.REQUEUE) for message in messages]
        if settlements:
            self.settle(settlements)

    def _settle_one(self, command: Any, message: MessageProxy) -> None:
        lease = message._lease or str(message.options["redis_message_id"]).encode()
        if self._is_held(message):
            del self._held[lease]
        elif message._lease is not None and lease not in self._in_doubt:
            return  # settled before, or held by another consumer under the same name
        try:
            self._try(command, self.queue_name, lease)
        except BrokerConnectionError:
            # It may be tried again, though it is not outstanding any more.
            self._in_doubt.add(lease)
            raise
        self._in_doubt.discard(lease)

    def _try(self, command: Any, *arguments: Any) -> Any:
        try:
            return command(*arguments)
        except Exception as error:
            if isinstance(error, BrokerConnectionError) or not is_passing(error):
                raise
            raise explain(error, self._link.where) from error

    def recover(self) -> bool:
        """Tell whether our leases are still ours: errors of the connection do not end them."""
        self._link.close()
        self._bell.reset()
        self._is_drained = False
        # What was taken before the error may not have arrived here.
        self._reconcile_at = 0.0
        return not self._is_lost

    def close(self) -> None:
        """Give back everything that was not settled."""
        held, self._held, self._cache = self._held, {}, []
        try:
            if held:
                keys = (self._acks, self._keys.ids, self._keys.payloads)
                self._link.run([(load("requeue"), keys, ("LPUSH", *reversed(held)))])
        finally:
            self._link.close()
            self._bell.close()
            self.broker.leave(self)

    # -- many at a time

    def fetch(self, max_messages: int, timeout_ms: float) -> list[MessageProxy]:
        """Take up to so many messages; wait for the first."""
        return self.exchange([], max_messages, timeout_ms)[1]

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle all in one round trip."""
        return self.exchange(settlements, 0, 0)[0]

    def exchange(
        self, settlements: Sequence[Settlement], max_messages: int, timeout_ms: float
    ) -> tuple[list[bool], list[MessageProxy]]:
        """Settle and take in one round trip. Each settlement is one atomic step."""
        self._check_in()
        # Before taking anything: after an error from here on nobody would know of it.
        self._reconcile()
        count = min(max_messages, MAX_BATCH)
        if self._delays is not None:
            if count and not settlements:
                self._delays.step(timeout_ms)
                count = 0
        elif count and not settlements:
            return [], self._fetch(count, timeout_ms)
        if not settlements:
            return [], []
        return self._settle(settlements, count)

    def keep(self, settlements: Sequence[Settlement]) -> None:
        """Store what is to be there before a workflow goes on; see `Consumer`."""
        calls = keeping(settlements, self._acks)
        if calls:
            self._link.run(calls)
            for each in settlements:
                each.operations.clear()

    def wake(self) -> None:
        """Make a waiting `fetch` return."""
        self._bell.interrupt()

    # -- being somebody

    def _check_in(self) -> None:
        """Be registered before taking anything, and notice when we are not any more."""
        if self.broker.broker_id != self.worker or self._is_lost:
            self._is_lost = True
            self.broker.disown(self.worker)
            raise ConnectionClosed(
                f"worker {self.worker} was taken for dead and its messages were given to others; "
                "it goes on as a new one"
            )
        if not self._has_joined:
            self.broker.enter(self)
            self._has_joined = True

    def lose(self) -> None:
        """Take note that this worker is not registered any more."""
        self._is_lost = True

    # -- taking

    def _fetch(self, count: int, timeout_ms: float) -> list[MessageProxy]:
        """Take up to so many messages; if there are none, wait for the first."""
        messages: list[MessageProxy] = []
        if not self._is_drained or not timeout_ms:
            _, messages = self._settle([], count)
        if messages or not timeout_ms:
            return messages
        if self._held:
            self._bell.ignore_until(self._taken_at + GATHER_S)
        if self._bell.wait(timeout_ms / 1000):
            _, messages = self._settle([], count)
            if not messages:
                self._bell.ignore_until(time.monotonic() + LOST_RACE_S)
        return messages

    def _settle(
        self, settlements: Sequence[Settlement], count: int
    ) -> tuple[list[bool], list[MessageProxy]]:
        ours = [each for each in settlements if self._is_held(each.message)]
        settling = Settling(ours, self._layout, self._acks, self.queue_name)
        calls = list(settling.calls)
        if count:
            keys = self._layout.taking(self.worker, self.queue_name)
            calls.append((load("fetch"), keys, (self.worker, count, self.queue_name)))
        if not calls:
            return [False] * len(settlements), []
        hit("redis.exchange.before")
        try:
            answers = self._link.run(calls)
            hit("redis.exchange.after")
        except Exception:
            self._in_doubt.update(each.message._lease for each in ours)
            raise
        taken = answers.pop() if count else []
        states = settling.states(answers)
        settled = [self._conclude(each, states) for each in settlements]
        messages = []
        if taken is None:
            # What was settled has to be reported first; the next call finds out.
            self.lose()
        elif taken == PAUSED:
            self._is_drained = True
            self._bell.ignore_until(time.monotonic() + PAUSED_LOOK_S)
        elif count:
            ids, payloads = taken or ((), ())
            self._is_drained = len(ids) < count
            if ids:
                self._taken_at = time.monotonic()
            messages = self._receive(list(zip(ids, payloads, strict=True)))
        return settled, messages

    def _conclude(self, settlement: Settlement, states: dict[bytes, int]) -> bool:
        """Forget a message that was settled; tell whether it was we who did."""
        if not self._is_held(settlement.message):
            return False
        lease = settlement.message._lease
        del self._held[lease]
        state = states[lease]
        is_in_doubt = lease in self._in_doubt
        self._in_doubt.discard(lease)
        return state == MOVED or (state == GONE and is_in_doubt)

    def _receive(self, taken: Sequence[tuple[bytes | None, bytes | None]]) -> list[MessageProxy]:
        now = current_millis()
        messages: list[MessageProxy] = []
        away: list[Settlement] = []
        for lease, payload in taken:
            if payload is None:
                self.logger.warning(
                    "Message %r in queue %r has no payload any more; it is dropped. Was it "
                    "evicted? Redis must run with maxmemory-policy noeviction.",
                    lease,
                    self.queue_name,
                )
                continue
            try:
                message = decode(payload)
                lease = lease or str(message.options["redis_message_id"]).encode()  # noqa: PLW2901
            except (DecodeError, KeyError) as error:
                away += self._bury(lease, payload, error)
                continue
            proxy = MessageProxy(message)
            proxy._lease = lease
            self._held[lease] = proxy
            if (later := self._later(message, now)) is None:
                messages.append(proxy)
            else:
                away.append(self._park(proxy, later))
        if away:
            self._put_away(away)
        return messages

    def _later(self, message: Message[Any], now: int) -> float | None:
        """Return the eta of a message that is not due; drop one that is past or no time."""
        if "eta" not in message.options or self._delays is not None:
            return None
        eta = eta_of(message, self.logger)
        if eta is not None and eta > now:
            return eta
        del message.options["eta"]
        return None

    def _park(self, proxy: MessageProxy, eta: float) -> Settlement:
        """Return what moves a message that is not due to the delay queue."""
        delay = max(0, int(eta - current_millis()))
        settlement = Settlement(proxy, Outcome.ACK)
        proxy._follow_ups = FollowUps(self.broker, collects=True)
        later = self.broker.address(proxy._message, delay)
        later.options["eta"] = eta
        proxy._follow_ups.envelopes.append(
            Envelope(
                later,
                later.encode(),
                delivery_id=later.options["redis_message_id"].encode(),
                delay=delay,
            )
        )
        return settlement

    def _bury(self, lease: bytes | None, payload: bytes, error: Exception) -> list[Settlement]:
        """Return what moves something that is no message to the dead letters, as it is."""
        text = printable(str(getattr(error, "error", None) or error))
        self.logger.error(
            "Message in queue %r cannot be decoded; its %d bytes go to the dead letters as they "
            "are. Was it written by hand, or with another encoder? %s",
            self.queue_name,
            len(payload),
            text,
        )
        lease = lease or find_id(self._link, self._acks, self._keys.payloads, payload)
        if lease is None:
            return []
        proxy = MessageProxy(None)  # type: ignore[arg-type]  # there is none
        proxy._lease = lease
        self._held[lease] = proxy
        return [Settlement(proxy, Outcome.NACK, reason=f"DecodeError: {text}")]

    def _put_away(self, settlements: list[Settlement]) -> None:
        try:
            self._settle(settlements, 0)
        except Exception as error:
            # Raising would take the good ones along. These are leased and nobody knows of them,
            # so they go back to the queue before long and come here again.
            self.logger.warning("Cannot put %d messages away now: %s", len(settlements), error)
            for each in settlements:
                self._held.pop(each.message._lease, None)
            self.recover()

    def bury(self, lease: bytes, message: Message[Any], error: Exception) -> None:
        """Move a message to the dead letters that cannot be moved to its queue."""
        self.logger.error(
            "Delayed message %s cannot be enqueued; it is dead.", message, exc_info=error
        )
        proxy = MessageProxy(message)
        proxy._lease = lease
        self._held[lease] = proxy
        reason = f"{type(error).__name__}: {error}"
        self._put_away([Settlement(proxy, Outcome.NACK, reason=reason)])

    # -- what is held

    def held_ids(self) -> list[bytes]:
        """Return the ids of what is held. Any thread."""
        return list(self._held)

    def _is_held(self, message: MessageProxy) -> bool:
        return self._held.get(message._lease) is message

    def _reconcile(self) -> None:
        """Give back leases that we do not know of, seen twice in a row: a reply was lost."""
        now = time.monotonic()
        if now < self._reconcile_at:
            return
        [held] = self._link.call([(b"SMEMBERS", self._acks)])
        unknown = set(held)
        # Other workers of this process share our registration.
        unknown.difference_update(self.broker.held_by(self.queue_name))
        strays = unknown & self._unknown
        if strays:
            self.logger.warning("Giving back %d messages that we did not know of.", len(strays))
            keys = (self._acks, self._keys.ids, self._keys.payloads)
            hit("redis.reconcile.before")
            self._link.run([(load("requeue"), keys, ("LPUSH", *strays))])
            hit("redis.reconcile.after")
            self._is_drained = False
        self._unknown = unknown - strays
        self._reconcile_at = now + (CONFIRM_S if self._unknown else RECONCILE_S)

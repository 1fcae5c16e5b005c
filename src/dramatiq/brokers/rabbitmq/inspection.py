"""What AMQP lets one see and do: counts, dropping what waits, and dead letters.

The protocol hands messages out or counts them; it cannot show one that stays where it is, tell
who holds what, or keep a queue from being consumed. Whatever needs that says so. Dead letters can
be taken in hand: nobody waits for them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...common import current_millis, dq_name, xq_name
from ...inspection import InspectionNotSupported, QueueCounts, QueueInfo, State
from .._inspection import Chunk, Entry, StoreInspection, renew
from .graveyard import visit
from .letters import new_id
from .publisher import Outgoing
from .topology import waiting_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...inspection import MessageInfo, Selection, WorkerInfo
    from .broker import RabbitmqBroker

__all__ = ["RabbitmqInspection"]

#: Why each thing cannot be done, and what can be.
_REASONS = {
    "pause": (
        "RabbitMQ cannot keep workers from consuming a queue. Stop those that serve it, or start "
        "them without it (--queues)"
    ),
    "workers": (
        "AMQP does not tell who is connected. The server's own tools do: "
        "rabbitmqctl list_consumers, or its management page"
    ),
    "messages": (
        "AMQP cannot show a message without handing it out, which would take it from workers. "
        "Dead letters can be looked at; the server's management page can look at single others"
    ),
}
_REASONS |= {"resume": _REASONS["pause"], "find": _REASONS["messages"]}
_REASONS |= dict.fromkeys(["note", "audit"], "RabbitMQ keeps messages alone, and no log")
_KEY = re.compile(r"[0-9a-f]{32}")


class RabbitmqInspection(StoreInspection):
    """Inspects the queues this process knows: AMQP cannot list those of the server.

    ``leased`` counts what this process holds; what others hold, the server does not tell.
    """

    broker: RabbitmqBroker

    # -- what cannot be done

    def workers(self) -> list[WorkerInfo]:
        """Refuse: AMQP does not tell."""
        raise self._unsupported("workers")

    def find(self, message_id: str) -> list[MessageInfo]:
        """Refuse: AMQP cannot show a message that waits."""
        raise self._unsupported("find")

    def _unsupported(self, what: str) -> InspectionNotSupported:
        reason = _REASONS.get(what)
        if reason is None:
            return super()._unsupported(what)
        return InspectionNotSupported(f"RabbitmqBroker does not support {what!r}: {reason}.")

    # -- what the base class needs

    def _now(self) -> int:
        return current_millis()

    def _queue_names(self) -> set[str]:
        return self.broker.get_declared_queues()

    def _infos(self, queue_names: Sequence[str], _count_limit: int | None) -> list[QueueInfo]:
        infos = []
        for name in queue_names:
            ready, delayed, dead = self.broker.topology.count_queue(name)
            leased = self.broker.held_here(name)
            infos.append(QueueInfo(name, QueueCounts(ready, delayed, leased, dead)))
        return infos

    def _read(
        self, state: State, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        if state is not State.DEAD:
            raise self._unsupported("messages")
        letters = self._letters(queue_name)[::-1]
        if after is not None:
            if _KEY.fullmatch(after) is None:
                raise ValueError(f"{after!r} is no cursor. Give that of the page before, or None.")
            places = [place for place, info in enumerate(letters, 1) if info.key == after]
            letters = letters[places[0] if places else 0 :]
        page = letters[:count]
        is_last = len(letters) <= count
        return Chunk([Entry(info.key, info) for info in page], None if is_last else page[-1].key)

    def _read_dead(
        self, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        # All at once: to read some takes as long.
        return Chunk([Entry(info.key, info) for info in self._letters(queue_name)], None)

    def _look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        wanted = set(keys)
        return [info for info in self._letters(queue_name) if info.key in wanted]

    def _count_dead(self, queue_name: str, since: int | None, until: int) -> int:
        return sum(
            (since or 0) <= (info.died_at or 0) <= until for info in self._letters(queue_name)
        )

    def _letters(self, queue_name: str) -> list[MessageInfo]:
        """Return the dead letters of a queue, the oldest first."""
        if not self.broker.topology.count([xq_name(queue_name)])[0]:
            return []
        with visit(self.broker, queue_name) as visiting:
            letters = [letter.info for letter in visiting.letters]
        return sorted(letters, key=lambda info: info.died_at or 0)

    def _requeue(self, queue_name: str, letters: list[MessageInfo]) -> int:
        payloads = {info.key: renew(info) for info in letters}
        with visit(self.broker, queue_name) as visiting:
            moved = [each for each in visiting.letters if payloads.get(each.info.key) is not None]
            moved.sort(key=lambda each: each.info.died_at or 0)
            # Under new ids: those of their first lives may count as done.
            outgoing = [
                Outgoing(queue_name, payloads[each.info.key] or b"", new_id(), each.priority)
                for each in moved
            ]
            if outgoing:
                self.broker.sender.send(outgoing)
            visiting.drop(moved)
        return len(moved)

    def _delete(self, queue_name: str, letters: list[MessageInfo]) -> int:
        keys = {info.key for info in letters}
        with visit(self.broker, queue_name) as visiting:
            dropped = [each for each in visiting.letters if each.info.key in keys]
            visiting.drop(dropped)
        return len(dropped)

    def _purge(self, queue_name: str, state: State) -> int:
        names = {
            State.READY: [queue_name],
            State.DELAYED: [dq_name(queue_name), *waiting_names(queue_name)],
            State.DEAD: [xq_name(queue_name)],
        }
        return self.broker.topology.purge(names[state])

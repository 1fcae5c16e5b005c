"""`messages`: what waits, runs or is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...inspection import Selection, State
from ..imports import close_matches
from .application import add_application_options, load_application, queue_of
from .tables import add_json_option, print_json, print_table, shorten
from .units import ago, parse_moment, parse_positive

if TYPE_CHECKING:
    import argparse

    from ...broker import Broker
    from ...inspection import Inspection, MessageInfo

__all__ = [
    "actor_hint",
    "add_arguments",
    "add_selection_options",
    "as_json",
    "call_of",
    "run",
    "selection_of",
]

#: Most characters of a call, and of a reason, in a table.
TEXT_WIDTH = 50
#: Most messages asked for at a time.
PAGE = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_application_options(parser)
    parser.add_argument(
        "--state", choices=[each.value for each in State], default=State.READY.value,
        help="which messages (default: %(default)s)",
    )  # fmt: skip
    add_selection_options(parser)
    parser.add_argument(
        "--limit", type=parse_positive, default=20, metavar="N",
        help="most messages to show (default: %(default)s)",
    )  # fmt: skip
    add_json_option(parser)


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add what restricts which messages are meant."""
    # fmt: off
    add = parser.add_argument
    now_ms = current_millis()
    add("--queue", "-q", metavar="QUEUE", help="only of this queue")
    add("--actor", metavar="ACTOR", help="only for this actor")
    add("--error", metavar="TEXT", help="only dead letters whose reason contains this text")
    add(
        "--since", metavar="WHEN", type=lambda text: parse_moment(text, now_ms),
        help="only what died since then: a duration ago (2h) or a date",
    )
    add(
        "--until", metavar="WHEN", type=lambda text: parse_moment(text, now_ms),
        help="only what died until then",
    )
    add("--id", metavar="MESSAGE_ID", help="only this message")
    # fmt: on


def selection_of(args: argparse.Namespace, broker: Broker) -> Selection:
    """Return what the options of `add_selection_options` select.

    Raises:
        UsageError: If the queue is not known.
    """
    return Selection(
        queue_name=None if args.queue is None else queue_of(broker, args.queue),
        actor_name=args.actor,
        message_id=args.id,
        error=args.error,
        since=args.since,
        until=args.until,
    )


def actor_hint(args: argparse.Namespace, broker: Broker) -> str:
    """Return which actor may have been meant, if none has the name that was given."""
    if args.actor is None or args.actor in broker.actors:
        return ""
    return close_matches(args.actor, broker.actors)


def run(args: argparse.Namespace) -> int:
    """List messages."""
    broker = load_application(args)
    state = State(args.state)
    found = _collect(broker.inspection, state, selection_of(args, broker), args.limit)
    if args.json:
        print_json([as_json(each) for each in found])
        return 0
    now_ms = current_millis()
    when = {State.DELAYED: "DUE", State.LEASED: "WORKER", State.DEAD: "DIED"}.get(state, "SENT")
    headers = ["MESSAGE", "QUEUE", "CALL", when]
    rows = [[*_common(each), _when(each, now_ms)] for each in found]
    if state is State.DEAD:
        headers.append("REASON")
        for row, each in zip(rows, found, strict=True):
            row.append(shorten(each.reason or "-", TEXT_WIDTH))
    hint = actor_hint(args, broker)
    print_table(headers, rows, empty=f"There are no {state.value} messages like this.{hint}")
    return 0


def as_json(info: MessageInfo) -> dict[str, Any]:
    """Return a message as the values that ``--json`` prints; see `MessageInfo`."""
    message = info.message
    fields: dict[str, Any] = {
        "key": info.key,
        "queue_name": info.queue_name,
        "state": info.state.value,
        "eta": info.eta,
        "worker_id": info.worker_id,
        "reason": info.reason,
        "died_at": info.died_at,
        "crashes": info.crashes,
        "message": message.asdict() if message else None,
    }
    if message is None:
        fields["payload"] = info.payload.decode(errors="backslashreplace")
    return fields


def call_of(info: MessageInfo, width: int = TEXT_WIDTH) -> str:
    """Return the call that a message stands for, on one line."""
    message = info.message
    return shorten(str(message), width) if message else "(cannot be decoded)"


def _collect(
    inspection: Inspection, state: State, selection: Selection, limit: int
) -> list[MessageInfo]:
    found: list[MessageInfo] = []
    cursor: str | None = None
    while len(found) < limit:
        page = inspection.messages(
            state, selection, limit=min(limit - len(found), PAGE), cursor=cursor
        )
        found += page.items
        cursor = page.cursor
        if cursor is None:
            break
    return found


def _common(info: MessageInfo) -> list[Any]:
    message = info.message
    return [message.message_id if message else info.key, info.queue_name, call_of(info)]


def _when(info: MessageInfo, now_ms: int) -> str:
    if info.state is State.LEASED:
        return info.worker_id or "-"
    message = info.message
    sent_at = int(message.message_timestamp) if message else None
    moments = {State.DELAYED: info.eta, State.DEAD: info.died_at}
    return ago(moments.get(info.state, sent_at), now_ms)

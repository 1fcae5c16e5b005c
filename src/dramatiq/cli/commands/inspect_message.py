"""`inspect`: all that is known about one message."""

from __future__ import annotations

import sys
from pprint import pformat
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...results.errors import ResultError, ResultFailure
from ..calls import signature_of
from .application import add_application_options, load_application
from .attempts import attempt_as_json, attempts_of, describe_attempts
from .errors import CommandError
from .messages import as_json
from .paint import Paint
from .tables import add_json_option, clean, print_json
from .units import ago, as_moment

if TYPE_CHECKING:
    import argparse

    from ...broker import Broker
    from ...history import Attempt
    from ...inspection import MessageInfo
    from ...message import Message

__all__ = ["add_arguments", "run"]

#: Options that are shown elsewhere than among the options.
_SHOWN_ELSEWHERE = frozenset({"traceback", "eta", "requeue_timestamp"})
#: Columns of the labels.
LABEL_WIDTH = 11


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("message_id", metavar="MESSAGE_ID")
    add_application_options(parser, positional=False)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Tell what the store and the history hold under a message id.

    Raises:
        CommandError: If they hold nothing.
    """
    broker = load_application(args)
    found = broker.inspection.find(args.message_id)
    attempts = attempts_of(broker, args.message_id)
    if not found and not attempts:
        raise CommandError(
            f"no message {args.message_id!r} is stored. It may have run to its end (such messages "
            "are not kept; a history tells of them, where the application has one and is named "
            "with -a), have been dropped, or be in another broker."
        )
    if args.json:
        told = [attempt_as_json(each) for each in attempts]
        stored = [as_json(each) for each in found] or [_gone_as_json(attempts)]
        print_json([{**each, "attempts": told} for each in stored])
        return 0
    now_ms = current_millis()
    blocks = [[*describe(info, broker, now_ms), *_result_lines(info, broker)] for info in found]
    blocks = blocks or [_describe_gone(attempts)]
    blocks[-1] += _block("attempts", describe_attempts(attempts, now_ms))
    _print_blocks(blocks)
    return 0


def _print_blocks(blocks: list[list[str]]) -> None:
    paint = Paint(sys.stdout)
    for number, lines in enumerate(blocks):
        if number:
            print()
        for line in lines:
            label, text = line[:LABEL_WIDTH], line[LABEL_WIDTH:]
            print(f"{paint('bold', label)}{text}" if label.strip() else line)


def _gone_as_json(attempts: list[Attempt]) -> dict[str, Any]:
    """Return what `as_json` would, for a message of which only the history knows."""
    last = attempts[-1]
    return {"key": None, "queue_name": last.queue_name, "state": None, "message": None}


def _describe_gone(attempts: list[Attempt]) -> list[str]:
    """Return lines about a message of which only the history knows."""
    last = attempts[-1]
    return [
        _line("message", last.message_id),
        _line("actor", last.actor_name),
        _line("queue", last.queue_name),
        _line("state", f"{last.outcome.value}; it is not stored any more"),
        _line("sent", as_moment(last.sent_at)),
        *_block("arguments", [last.arguments] if last.arguments else []),
        *_block("traceback", (last.traceback or "").splitlines()),
    ]


def describe(info: MessageInfo, broker: Broker, now_ms: int) -> list[str]:
    """Return lines about a message, each with its label in the first columns."""
    message = info.message
    if message is None:
        raw = clean(info.payload.decode(errors="backslashreplace"))
        return [
            _line("message", f"cannot be decoded; it is stored as {info.key}"),
            _line("queue", info.queue_name),
            _line("state", info.state.value),
            *_timeline(info, None, now_ms),
            _line("payload", raw),
        ]
    lines = [
        _line("message", message.message_id),
        _line("actor", message.actor_name),
        _line("queue", info.queue_name),
        _line("state", info.state.value),
        *_timeline(info, message, now_ms),
        *_block("arguments", _arguments(message, broker)),
    ]
    options = {
        name: value for name, value in message.options.items() if name not in _SHOWN_ELSEWHERE
    }
    lines += _block("options", [f"{name}={value!r}" for name, value in options.items()])
    if info.crashes:
        lines.append(_line("crashes", f"it brought down {info.crashes} worker processes"))
    lines += _block("traceback", str(message.options.get("traceback") or "").splitlines())
    return lines


def _timeline(info: MessageInfo, message: Message[Any] | None, now_ms: int) -> list[str]:
    """Return what happened to a message, as far as the store knows, in its order."""
    events: list[tuple[str, int | None]] = []
    if message is not None:
        events.append(("sent", int(message.message_timestamp)))
        failed_at = message.options.get("requeue_timestamp")
        events.append(("failed", failed_at if isinstance(failed_at, int) else None))
    events += [("due", info.eta), ("died", info.died_at)]
    lines = [
        _line(name, f"{as_moment(moment)} ({ago(moment, now_ms)})")
        for name, moment in sorted(events, key=lambda event: event[1] or 0)
        if moment is not None
    ]
    if info.worker_id:
        lines.append(_line("held by", info.worker_id))
    if info.reason:
        lines.append(_line("reason", clean(info.reason)))
    return lines


def _arguments(message: Message[Any], broker: Broker) -> list[str]:
    """Return a line for each argument, with its name where the actor is known."""
    actor = broker.actors.get(message.actor_name)
    signature = signature_of(actor) if actor else None
    names = [
        parameter.name
        for parameter in (signature.parameters.values() if signature else ())
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]
    labels = [*names, *map(str, range(len(names), len(message.args)))]
    pairs = [*zip(labels, message.args, strict=False), *message.kwargs.items()]
    lines: list[str] = []
    for name, value in pairs:
        first, *rest = pformat(value, width=80).splitlines()
        lines += [f"{name} = {first}", *(f"    {each}" for each in rest)]
    return lines


def _result_lines(info: MessageInfo, broker: Broker) -> list[str]:
    message = info.message
    if message is None:
        return []
    try:
        result = broker.get_results_backend().get_result(message)
    except ResultFailure as error:
        return [_line("result", f"failed: {clean(str(error))}")]
    except (RuntimeError, ResultError):
        return []  # no backend, or nothing stored
    return _block("result", pformat(result).splitlines())


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{text}"


def _block(label: str, lines: list[str]) -> list[str]:
    """Return lines under one label; none if there are none."""
    return [_line("" if number else label, clean(each)) for number, each in enumerate(lines)]

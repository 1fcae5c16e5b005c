"""`workflows`: compositions that are kept in a store; `list`, `show`, `cancel` and `retry` them."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...workflows.reading import State
from .application import add_application_options, load_application
from .confirmation import add_confirmation_options, confirm
from .errors import CommandError, UsageError
from .tables import add_json_option, print_json, print_table, shorten
from .units import ago, parse_positive
from .workflow_tree import ERROR_WIDTH, HEADERS, describe_error, head_lines, rows_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ...broker import Broker
    from ...inspection import Inspection
    from ...workflows.tree import WorkflowInfo

__all__ = ["EPILOG", "VERBS", "add_arguments", "add_verb_arguments", "run"]

#: The words that follow the command's name, each with what it does.
VERBS = {
    "list": "list workflows, the newest first",
    "show": "show what a workflow is made of, and how far it is",
    "cancel": "have what has not started of workflows not start",
    "retry": "have what failed or was cancelled run again",
}

EPILOG = """\
examples:
  $ dramatiq workflows list --state failed
  $ dramatiq workflows show 0b1f4c1e --mermaid > workflow.mmd
  $ dramatiq workflows cancel 0b1f4c1e --node 0.2 --yes
  $ dramatiq workflows retry --all --dry-run

`dramatiq workflows VERB --help` tells more. The beginning of an id is enough where no other
workflow among the newest begins like it.
"""

#: Most workflows asked for at a time.
PAGE = 100
#: How many of the newest workflows are looked through for the beginning of an id.
NEWEST = 1000
#: In which state workflows are meant by ``--all``.
_MEANT = {"cancel": {State.RUNNING}, "retry": {State.FAILED, State.CANCELLED}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what stands where no verb is given: for help, and to say what is missing."""
    words = "\n".join(f"  {name:<7} {what}" for name, what in VERBS.items())
    parser.epilog = f"verbs:\n{words}\n\n{EPILOG}"
    parser.add_argument("verb", choices=list(VERBS), metavar="VERB")
    add_application_options(parser, positional=False)


def add_verb_arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the options of a verb."""
    if verb == "list":
        _add_list_arguments(parser)
    elif verb == "show":
        _add_show_arguments(parser)
    else:
        _add_acting_arguments(parser, verb)


def _add_list_arguments(parser: argparse.ArgumentParser) -> None:
    add_application_options(parser)
    parser.add_argument(
        "--state", choices=[each.value for each in State], help="only those in this state"
    )
    parser.add_argument(
        "--limit", type=parse_positive, default=20, metavar="N",
        help="most workflows to show (default: %(default)s)",
    )  # fmt: skip
    add_json_option(parser)


def _add_show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workflow_id", metavar="WORKFLOW_ID")
    parser.add_argument(
        "--limit", type=parse_positive, default=20, metavar="N",
        help="most children of a group or chain to show (default: %(default)s)",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--mermaid", action="store_true", help="print a Mermaid flow chart")
    add_json_option(form)
    add_application_options(parser, positional=False)


def _add_acting_arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    meant = " or ".join(sorted(state.value for state in _MEANT[verb]))
    parser.add_argument("ids", metavar="WORKFLOW_ID", nargs="*")
    parser.add_argument("--all", action="store_true", help=f"all that are {meant}")
    parser.add_argument(
        "--node", metavar="NODE", help="only this part of it, by its place in `show`: 0.2"
    )
    add_confirmation_options(parser)
    add_application_options(parser, positional=False)


def run(args: argparse.Namespace) -> int:
    """List, show, cancel or retry workflows.

    Raises:
        CommandError: If a workflow is not there, the broker cannot keep any, or the user does not
            confirm.
    """
    broker = load_application(args)
    _refuse_without_store(broker)
    if args.verb == "list":
        return _list(args, broker.inspection)
    if args.verb == "show":
        return _show(args, broker.inspection)
    return _act(args, broker.inspection)


def _refuse_without_store(broker: Broker) -> None:
    try:
        _ = broker.workflows
    except RuntimeError as error:
        raise CommandError(str(error)) from None


# -- looking


def _list(args: argparse.Namespace, inspection: Inspection) -> int:
    state = None if args.state is None else State(args.state)
    found = list(_newest(inspection, args.limit, {state} if state else None))
    if args.json:
        print_json([_as_json(each) for each in found])
        return 0
    now_ms = current_millis()
    rows = [
        [
            each.workflow_id,
            each.state.value,
            each.total,
            each.done,
            each.failed,
            ago(each.created_at, now_ms),
            shorten(describe_error(each.error), ERROR_WIDTH) if each.error else "",
        ]
        for each in found
    ]
    headers = ["WORKFLOW", "STATE", "MESSAGES", "DONE", "FAILED", "STARTED", "ERROR"]
    print_table(headers, rows, empty=f"There are no {f'{args.state} ' if state else ''}workflows.")
    return 0


def _newest(
    inspection: Inspection, limit: int | None, states: set[State] | None
) -> Iterator[WorkflowInfo]:
    """Yield workflows of some states, the newest first; all of them without a limit."""
    cursor: str | None = None
    count = 0
    while True:
        infos, cursor = inspection.workflows(limit=PAGE, cursor=cursor)
        for info in infos:
            if states is None or info.state in states:
                yield info
                count += 1
                if count == limit:
                    return
        if cursor is None:
            return


def _find(inspection: Inspection, name: str) -> WorkflowInfo:
    """Return the workflow of an id, or of the beginning of one.

    Raises:
        CommandError: If there is none.
        UsageError: If there are several.
    """
    info = inspection.workflow(name)
    if info is not None:
        return info
    newest = _newest(inspection, NEWEST, None)
    found = [each for each in newest if each.workflow_id.startswith(name)] if name else []
    if len(found) > 1:
        ids = ", ".join(each.workflow_id for each in found[:5])
        raise UsageError(f"{len(found)} workflows begin with {name!r}: {ids}. Write more of it.")
    if not found:
        raise CommandError(
            f"no workflow {name!r} is stored. It may have ended more than a day ago (then it is "
            "not kept), or be in another broker."
        )
    return found[0]


def _show(args: argparse.Namespace, inspection: Inspection) -> int:
    info = _find(inspection, args.workflow_id)
    tree = inspection.workflow_tree(info.workflow_id, shown=args.limit)
    if tree is None:
        raise CommandError(f"workflow {info.workflow_id} is not there any more.")
    if args.mermaid:
        from ...workflows.tree import mermaid

        sys.stdout.write(mermaid(tree))
        return 0
    if args.json:
        print_json({**_as_json(info), "tree": dataclasses.asdict(tree)})
        return 0
    for line in head_lines(info, current_millis()):
        print(line)
    print()
    print_table(HEADERS, list(rows_of(tree)), empty="")
    return 0


def _as_json(info: WorkflowInfo) -> dict[str, Any]:
    return {**dataclasses.asdict(info), "state": info.state.value}


# -- acting


def _act(args: argparse.Namespace, inspection: Inspection) -> int:
    if args.all == bool(args.ids):
        raise UsageError("name workflows by their ids, or all with --all.")
    if args.node is not None and len(args.ids) != 1:
        raise UsageError("--node needs the id of the one workflow it is a part of.")
    meant = _MEANT[args.verb]
    if args.all:
        infos = list(_newest(inspection, None, meant))
    else:
        infos = [_find(inspection, name) for name in dict.fromkeys(args.ids)]
    # A part may have failed, which is allowed, of a workflow that goes on.
    idle = [] if args.node is not None else [each for each in infos if each.state not in meant]
    for info in idle:
        sys.stderr.write(f"Workflow {info.workflow_id} is {info.state.value}: left as it is.\n")
    infos = [each for each in infos if each not in idle]
    if not infos:
        sys.stderr.write(f"There is nothing to {args.verb}.\n")
        return 0
    if not confirm(args, _order(args, infos)):
        return 0
    try:
        return (
            _cancel(args, inspection, infos)
            if args.verb == "cancel"
            else _retry(args, inspection, infos)
        )
    except ValueError as error:  # no such node
        raise UsageError(str(error)) from None


def _order(args: argparse.Namespace, infos: list[WorkflowInfo]) -> str:
    if args.node is not None:
        return f"{args.verb.capitalize()} node {args.node} of workflow {infos[0].workflow_id}."
    workflows = f"{len(infos):,} workflow{'' if len(infos) == 1 else 's'}"
    if args.verb == "cancel":
        count = sum(each.total - each.done for each in infos)
        return f"Cancel {workflows} with {count:,} message{'' if count == 1 else 's'} to go."
    return f"Retry what failed or was cancelled of {workflows}."


def _cancel(args: argparse.Namespace, inspection: Inspection, infos: list[WorkflowInfo]) -> int:
    done = sum(inspection.cancel_workflow(info.workflow_id, args.node) for info in infos)
    print(f"{done:,} cancelled")
    if done < len(infos):
        sys.stderr.write(f"{len(infos) - done:,} had ended by then, and stay as they are.\n")
        return 1
    return 0


def _retry(args: argparse.Namespace, inspection: Inspection, infos: list[WorkflowInfo]) -> int:
    counts = [inspection.retry_workflow(info.workflow_id, args.node) for info in infos]
    print(f"{sum(count or 0 for count in counts):,} started again")
    return 0

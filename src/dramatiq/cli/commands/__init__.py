"""The commands beside the worker's own command line, each in a module of its own.

Here are their names alone, for every start of the program reads them. `dispatch` finds the module
of a command. A command is a module with `add_arguments`, which fills a parser, and `run`, which
takes the parsed arguments and returns an exit code; one with `VERBS` has `add_verb_arguments` too,
for the word that follows its name. Commands look at queues and act on them through
`Broker.inspection` and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "COMMANDS_EPILOG", "is_command", "is_local_module"]

#: The reserved words, each with what its command does.
COMMANDS = {
    "run": "run workers: what `dramatiq MODULE` does, said explicitly",
    "worker": "the same as run",
    "dev": "run one worker process that reloads when sources change",
    "doctor": "look for what is wrong with the application, its broker and this machine",
    "actors": "list the actors",
    "queues": "list the queues and how many messages they hold",
    "workers": "list the worker processes",
    "messages": "list messages that wait, run or are dead",
    "inspect": "tell all that is known about one message",
    "enqueue": "send a message to an actor",
    "requeue": "put dead letters back into their queues",
    "delete": "drop dead letters for good",
    "purge": "drop the messages of queues for good",
    "pause": "have workers take nothing more from queues",
    "resume": "undo pause",
    "workflows": "list, show, cancel or retry workflows",
    "dashboard": "serve pages that show all of this and act on it",
    "migrate-schema": "make the tables of a broker on PostgreSQL, or bring them up to date",
    "top": "watch queues, workers and failures on a live screen",
}

#: The commands, for the help of the worker's command line.
COMMANDS_EPILOG = "\n".join(
    [
        "",
        "commands, when they are exactly the first word (`dramatiq run NAME` runs a module of that",
        "name; `dramatiq COMMAND --help` tells more):",
        *(f"  {name:<14}  {what}" for name, what in COMMANDS.items()),
        "",
    ]
)


def is_command(argv: Sequence[str]) -> bool:
    """Tell whether a command line, without the program's name, is that of a command.

    A module in the current folder comes before the word that only repeats another: programs of
    2.x are started with ``dramatiq worker`` where there is a ``worker.py``.
    """
    if not argv or argv[0] not in COMMANDS:
        return False
    return argv[0] != "worker" or not is_local_module("worker")


def is_local_module(name: str) -> bool:
    """Tell whether the current folder has a module of that name."""
    return Path(f"{name}.py").is_file() or Path(name, "__init__.py").is_file()

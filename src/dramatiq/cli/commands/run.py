"""`run`, and `worker`: the worker's command line, said explicitly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..command import run_workers
from ..parser import make_argument_parser

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]


def run(name: str, argv: Sequence[str]) -> int:
    """Run workers; see `dramatiq.cli.main`.

    Args:
        name: The command.
        argv: What follows it.
    """
    parser = make_argument_parser()
    parser.prog = f"dramatiq {name}"
    return run_workers(parser.parse_args(argv))

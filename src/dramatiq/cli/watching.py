"""Reload when sources change: for `--watch`, with the package `watchfiles`.

The watching is done by a child of its own, because the supervisor has one thread only, so that it
may fork at any time. The child asks for a reload as a user would, with SIGHUP: once, as a second
signal would end everything at once; with `--rolling`, where it would not, as often as needed.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from .channel import BootReport, die_with_supervisor
from .log_pipes import open_log_pipe
from .logs import make_logging_setup
from .signals import try_unblock_signals

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from .channel import ChildChannel

#: The signal that reloads; None where the platform has none.
RELOAD_SIGNAL = getattr(signal, "SIGHUP", None)

#: Whether sources can be watched. The name is that of 2.x, where another package did it.
HAS_WATCHDOG = RELOAD_SIGNAL is not None and importlib.util.find_spec("watchfiles") is not None

#: Milliseconds of quiet after which a group of changes is complete: saving a file is several
#: events, and saving a project or switching a branch many more.
QUIET_MS = 50

#: Milliseconds between two looks at all files when polling.
POLL_MS = 300

#: Milliseconds after which watching looks up although nothing happens.
LOOK_ROUND_MS = 1000

#: Directories that are not searched for what changed while nobody was watching yet.
NOT_SEARCHED = frozenset({"__pycache__", "node_modules"})

setup_watcher_logging = make_logging_setup("Watcher")


def what_is_missing() -> str | None:
    """Say what keeps sources from being watched, and what to do; None if nothing does."""
    if RELOAD_SIGNAL is None:
        return "--watch needs the signal SIGHUP, which this platform does not have."
    if importlib.util.find_spec("watchfiles") is None:
        return "--watch needs the package watchfiles: pip install 'dramatiq[watch]'"
    return None


class SourceFilter:
    """Tells whether a change of a file matters.

    A pattern has the wild cards of the shell, where ``*`` and ``**`` also match slashes. It is
    compared with the whole path, with the path inside of the watched directory, and, if it has
    slashes, with as many last parts of the path.

    Args:
        directory: The watched directory.
        include: Patterns of files that matter.
        exclude: Patterns of those that do not, although they are included.
    """

    def __init__(
        self, directory: str, include: Iterable[str] | None, exclude: Iterable[str] | None
    ) -> None:
        self._directory = directory
        self._include = tuple(include or ("**.py",))
        self._exclude = tuple(exclude or ())

    def __call__(self, _change: object, path: str) -> bool:
        """Return whether the file at this path matters, whatever happened to it."""
        return self._matches(path, self._include) and not self._matches(path, self._exclude)

    def _matches(self, path: str, patterns: tuple[str, ...]) -> bool:
        inside = os.path.relpath(path, self._directory)
        return any(
            fnmatchcase(path, pattern)
            or fnmatchcase(inside, pattern)
            or PurePath(path).match(pattern)
            for pattern in patterns
        )


def watch_process(args: argparse.Namespace, started_at: float, channel: ChildChannel) -> None:
    """Watch until a file changes that matters, then ask the supervisor to reload.

    Args:
        args: The command line.
        started_at: When the supervisor started (UNIX seconds). The workers may have read files
            that were changed between then and the moment from which on they are watched.
        channel: The pipes to the supervisor.
    """
    _enter(channel)
    logger = setup_watcher_logging(args, 0, open_log_pipe(channel.log.fileno()))
    channel.send_report(BootReport())
    directory = os.path.abspath(args.watch)  # noqa: PTH100 - links stay as they are
    matters = SourceFilter(
        directory,
        getattr(args, "include_patterns", None),
        getattr(args, "exclude_patterns", None),
    )
    is_rolling = bool(getattr(args, "rolling", False))
    use_polling = bool(getattr(args, "watch_use_polling", False))
    for paths in _changes(directory, matters, started_at, use_polling=use_polling):
        shown = ", ".join(os.path.relpath(path, directory) for path in sorted(paths)[:3])
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        logger.info("Changed: %s%s. Reloading.", shown, more)
        os.kill(channel.supervisor_pid, signal.Signals(RELOAD_SIGNAL or 0))
        if not is_rolling:
            break
    os.read(channel.lifeline.fileno(), 1)  # until the supervisor ends this process, or is gone


def _enter(channel: ChildChannel) -> None:
    """Become a process that any signal ends at once: there is nothing to clean up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP", "SIGCHLD"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    channel.enter()
    die_with_supervisor(channel.supervisor_pid, signal.SIGTERM)
    try_unblock_signals()


def _changes(
    directory: str, matters: SourceFilter, started_at: float, *, use_polling: bool
) -> Iterator[set[str]]:
    """Yield the paths of what changed, in groups of changes in quick succession."""
    from watchfiles import watch  # an extra

    is_first = True
    for changes in watch(
        directory,
        watch_filter=matters,
        step=QUIET_MS,
        rust_timeout=LOOK_ROUND_MS,
        yield_on_timeout=True,
        force_polling=use_polling or None,
        poll_delay_ms=POLL_MS,
        raise_interrupt=False,
        ignore_permission_denied=True,
    ):
        paths = {path for _, path in changes}
        if is_first:
            is_first = False
            paths |= _changed_since(directory, matters, started_at)
        if paths:
            yield paths


def _changed_since(directory: str, matters: SourceFilter, moment: float) -> set[str]:
    """Return the files that matter and were written between a moment (UNIX seconds) and now.

    What claims to be from the future does not count: it would cause a reload at each start.
    """
    now = time.time()
    changed = set()
    for folder, names, files in os.walk(directory):
        names[:] = [name for name in names if name not in NOT_SEARCHED and name[0] != "."]
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118 - one of very many
            if matters(None, path):
                with suppress(OSError):
                    if moment < Path(path).stat().st_mtime <= now:
                        changed.add(path)
    return changed

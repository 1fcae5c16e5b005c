"""The files in which the processes of a program keep their figures, beside those of other programs.

Many programs may use one folder, one after the other or at a time. So files are named for the
program and the process whose they are, each with its start, for ids come back. Whose they are is
never guessed by age: a process of this program lives if the system says so; another program does
as long as any of its processes holds its lock, which the kernel drops with them.

    counter_4711x8823-4712x8830.db     of process 4712, program (main process) 4711
    gauge_livesum_4711x8823-….db       likewise; removed when that process is gone
    counter_4711x8823-folded3.db       what processes that are gone have counted, added up
    program_4711x8823.lock             byte 0: held by all of the program; byte 1: by who tidies up

Within a program one process at a time reads or tidies up. In a process, any thread may.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]

from . import folding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Store", "merge"]

#: Kinds of files that each process has.
KINDS = ("counter", "gauge_livemin", "gauge_livesum", "histogram")
#: With how many bytes a file begins; the client library doubles it when that is not enough.
FILE_SIZE = 65_536

#: So many files of processes that are gone are left as they are. Reading each costs some 50 µs.
SPARE_FILES = 16

_FILE = re.compile(
    r"(?P<kind>counter|summary|histogram|gauge_[a-z]+)_(?P<program>\d+x\d+)-(?P<process>\w+)\.db"
)
_LOCK = re.compile(r"program_(\d+x\d+)\.lock")


class Figures(NamedTuple):
    """A file of figures."""

    path: Path
    #: ``counter``, ``gauge_livesum`` and the like.
    kind: str
    program: str
    #: Of the process, or ``folded`` with a number.
    process: str


def merge(files: Iterable[Figures]) -> list[Any]:
    """Return the metrics that files hold, added up, as the client library has them."""
    from prometheus_client.multiprocess import MultiProcessCollector

    return list(MultiProcessCollector.merge([str(each.path) for each in files]))


class Store:
    """The files of this program.

    Args:
        path: The folder.
        program: Names the program.

    Raises:
        OSError: If the folder cannot be written to.
    """

    _of_process: tuple[int, Store] | None = None

    def __init__(self, path: Path, program: str) -> None:
        self.path = path
        self.program = program
        #: Whether this process keeps figures.
        self.has_values = False
        path.mkdir(parents=True, exist_ok=True)
        self._thread_lock = Lock()
        self._take_name()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._take_name)
        self._lock_file = os.open(
            path / f"program_{program}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        if fcntl is not None:
            fcntl.lockf(self._lock_file, fcntl.LOCK_SH, 1, 0)

    @classmethod
    def of_this_process(cls, path: Path) -> Store:
        """Return the one of this process: to close a second one would drop the lock of both."""
        pid = os.getpid()
        if cls._of_process is not None:
            of_pid, store = cls._of_process
            if of_pid == pid and store.path == path:
                return store
        parent = multiprocessing.parent_process()
        main_pid = pid if parent is None or parent.pid is None else parent.pid
        store = cls(path, _name(main_pid))
        cls._of_process = (pid, store)
        return store

    def close(self) -> None:
        """Let go of the program's lock. Harmless when called twice."""
        descriptor, self._lock_file = self._lock_file, -1
        if descriptor >= 0:
            os.close(descriptor)
        type(self)._of_process = None

    # -- writing

    def process_name(self) -> str:
        """Return the name of this process for its files; it changes with a fork."""
        return self._process_name

    def file(self, kind: str) -> Path:
        """Return the file of this process for metrics of a kind."""
        return self.path / f"{kind}_{self.process_name()}.db"

    def _take_name(self) -> None:
        # Once, for the client library asks for it whenever it writes a figure.
        self._process_name = f"{self.program}-{_name(os.getpid())}"

    def name_values(self) -> None:
        """Have all metrics that are made from now on, the application's too, kept in such files."""
        from prometheus_client import values

        for kind in KINDS:
            _allocate(self.file(kind))
        values.ValueClass = values.MultiProcessValue(self.process_name)
        self.has_values = True

    def mark_dead(self) -> None:
        """Remove what is only true of a process that lives."""
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(self.process_name(), str(self.path))

    # -- reading and tidying up

    @contextmanager
    def reading(self) -> Iterator[list[Figures]]:
        """Tidy up; give the files, which nobody changes meanwhile but those who write them."""
        with self._locked():
            self._tidy()
            # A file that has just been made is empty for a moment.
            yield [each for each in self._files() if each.path.stat().st_size > 0]

    def tidy(self) -> None:
        """Remove what dead processes and programs have left and nobody needs any more."""
        with self._locked():
            self._tidy()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread_lock:
            if os.name == "nt":  # no record locks
                yield
                return
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX, 1, 1)
            try:
                yield
            finally:
                fcntl.lockf(self._lock_file, fcntl.LOCK_UN, 1, 1)

    def _tidy(self) -> None:
        self._remove_gone_programs()
        folding.finish(self.path, self.program)
        spare = []
        for each in self._files():
            if each.process.startswith("folded") or _is_running(each.process):
                continue
            if each.kind.startswith("gauge_live"):
                each.path.unlink(missing_ok=True)
            elif not each.kind.startswith("gauge"):
                spare.append(each)
        if len(spare) > SPARE_FILES:
            self._fold(spare)

    def _fold(self, spare: list[Figures]) -> None:
        folded = [each for each in self._files() if each.process.startswith("folded")]
        number = max((int(each.process[6:]) for each in folded), default=0) + 1
        by_kind: dict[str, list[Path]] = {}
        for each in [*folded, *spare]:
            by_kind.setdefault(each.kind, []).append(each.path)
        folding.fold(self.path, self.program, number, by_kind)

    def _files(self) -> list[Figures]:
        return [each for each in _all_files(self.path) if each.program == self.program]

    def _remove_gone_programs(self) -> None:
        names = [path.name for path in self.path.iterdir()]
        locks = {found[1] for name in names if (found := _LOCK.fullmatch(name))}
        for program in locks - {self.program}:
            if not _is_running(program) and self._is_abandoned(program):
                for path in self.path.glob(f"*_{program}[-.]*"):
                    path.unlink(missing_ok=True)

    def _is_abandoned(self, program: str) -> bool:
        if os.name == "nt":
            return False  # no record locks, no way to know
        try:
            descriptor = os.open(self.path / f"program_{program}.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False  # gone meanwhile, or somebody else's
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


def _allocate(path: Path) -> None:
    """Make a file and its space: to write into a mapped one where none is left would kill."""
    with path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, FILE_SIZE)


def _all_files(path: Path) -> Iterator[Figures]:
    for name in os.listdir(path):  # noqa: PTH208 (at each scrape, and there may be many)
        found = _FILE.fullmatch(name)
        if found is not None:
            yield Figures(path / name, found["kind"], found["program"], found["process"])


def _name(pid: int) -> str:
    """Return a name for a process that no later one has."""
    return f"{pid}x{_stat(pid)[1] or 0}"


def _is_running(process: str) -> bool:
    """Tell whether the process of that name runs. A zombie does not."""
    pid, _, start = process.partition("x")
    if not pid.isdecimal():
        return False
    state, found_start = _stat(int(pid))
    if state is not None:
        return state not in "ZX" and start == found_start
    if os.path.exists("/proc/self/stat"):  # noqa: PTH110 (once per dead process)
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _stat(pid: int) -> tuple[str | None, str | None]:
    """Return state and start of a process; nothing where the system does not tell."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), fields[19].decode()
    return None, None

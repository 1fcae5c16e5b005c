"""Reading what another process wrote down, dead or alive."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]

from .layout import (
    BOOT_ID_AT,
    FREE,
    GUILTY,
    HEADER_SIZE,
    NUMBER,
    PREFIX,
    PROGRESS_CELLS,
    PULSE_AT,
    RECORD_FIELDS,
    RECORD_FIELDS_AT,
    RECORD_SIZE,
    RECORDS_AT,
    RUNNING,
    STOPPING_AT,
    VERSION,
    boot_id,
    path_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = [
    "FlightReader",
    "Running",
    "Sight",
    "decode",
    "find_stale",
    "forget",
    "look_at_other",
    "names",
    "read",
    "strike_off",
]


class Running(NamedTuple):
    """A message that a process is running, or was when it died."""

    place: int
    is_guilty: bool
    deadline: float
    started_at: float
    lease: bytes
    actor_name: str
    queue_name: str


class Sight(NamedTuple):
    """What there was to see at one moment."""

    #: How many seconds the process could run.
    pulses: int
    is_stopping: bool
    #: For each loop that is expected back, by which pulse.
    expected: dict[int, int]
    running: list[Running]


class FlightReader:
    """Keeps the file of another process open, which it may remove. Not for one's own.

    Args:
        name: The file.

    Raises:
        OSError: If it is not there or somebody else's.
    """

    def __init__(self, name: str) -> None:
        path = path_of(name)
        if path is None:
            raise FileNotFoundError(name)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)

    def look(self) -> Sight:
        """Read all of it."""
        data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        return decode(data)

    def blame_only(self, places: Collection[int]) -> None:
        """Say who is to blame for the end of the process, which must stand still or be dead."""
        for each in self.look().running:
            at = RECORDS_AT + each.place * RECORD_SIZE
            state = GUILTY if each.place in places else FREE
            os.pwrite(self._descriptor, bytes([state]), at)

    def excuse(self) -> None:
        """Say that the process is being ended: what it runs from here on is not to blame."""
        os.pwrite(self._descriptor, b"\1", STOPPING_AT)

    def close(self) -> None:
        """Close it. Harmless when called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def read(name: str) -> list[bytes]:
    """Return the leases of what may be to blame for the death of the process with that recorder.

    That is what it was running, the longest first, unless it had been asked to end or the machine
    has been started anew since; or what its supervisor has put the blame on. Nothing if there is
    no such file.
    """
    path = path_of(name)
    data = b""
    if path is not None:
        with suppress(FileNotFoundError, PermissionError):
            data = path.read_bytes()
    if not data.startswith(VERSION) or _boot_id_of(data) != boot_id():
        return []
    sight = decode(data)
    return [
        each.lease
        for each in sorted(sight.running, key=attrgetter("started_at"))
        if each.lease and (each.is_guilty or not sight.is_stopping)
    ]


def _boot_id_of(data: bytes) -> bytes:
    length = data[BOOT_ID_AT : BOOT_ID_AT + 1]
    return data[BOOT_ID_AT + 1 : BOOT_ID_AT + 1 + int.from_bytes(length)]


def decode(data: bytes) -> Sight:
    """Return what the bytes of a recorder say; nothing for what is none of this version."""
    if len(data) < RECORDS_AT or not data.startswith(VERSION):
        return Sight(0, False, {}, [])
    (pulses,) = NUMBER.unpack_from(data, PULSE_AT)
    cells = (NUMBER.unpack_from(data, HEADER_SIZE + 8 * cell)[0] for cell in range(PROGRESS_CELLS))
    expected = {cell: pulse for cell, pulse in enumerate(cells) if pulse}
    return Sight(pulses, bool(data[STOPPING_AT]), expected, list(_running(data)))


def _running(data: bytes) -> Iterator[Running]:
    for index in range((len(data) - RECORDS_AT) // RECORD_SIZE):
        at = RECORDS_AT + index * RECORD_SIZE
        state = data[at]
        if state not in {RUNNING, GUILTY}:
            continue
        deadline, started_at, lease, actor_name, queue_name = RECORD_FIELDS.unpack_from(
            data, at + RECORD_FIELDS_AT
        )
        yield Running(
            index,
            state == GUILTY,
            deadline,
            started_at,
            lease,
            actor_name.decode("utf-8", "replace"),
            queue_name.decode("utf-8", "replace"),
        )


def look_at_other(name: str) -> Sight:
    """Return what another process is running; nothing if it is of another machine or start."""
    path = path_of(name)
    if path is not None:
        with suppress(OSError):
            data = path.read_bytes()
            if _boot_id_of(data) == boot_id():
                return decode(data)
    return decode(b"")


def forget(name: str) -> None:
    """Remove the file of a recorder."""
    path = path_of(name)
    if path is not None:
        with suppress(FileNotFoundError, PermissionError):
            path.unlink()


def names() -> set[str]:
    """Return the names of all recorders of this machine."""
    paths = Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
    return {path.name for path in paths if path_of(path.name)}


def strike_off(name: str, lease: bytes) -> bool:
    """Tell whether a process that is gone is to blame for a message's end, and note that it was.

    For brokers that learn of a death by the message: each is blamed once. Not for one's own.
    """
    path = path_of(name)
    if path is None or lease not in read(name):
        return False
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            # Again, now that nobody else can change it.
            running = decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0)).running
            guilty = [each for each in running if each.lease == lease]
            for each in guilty:
                os.pwrite(descriptor, bytes([FREE]), RECORDS_AT + each.place * RECORD_SIZE)
            if len(guilty) == len(running):
                path.unlink()
            return bool(guilty)
        finally:
            os.close(descriptor)
    return False


def find_stale() -> set[str]:
    """Return the names of the recorders of processes that are surely gone.

    Their record locks tell: the kernel drops them with the process, whatever namespace it was in.
    Not for a process that has a recorder itself: its lock would go.
    """
    if os.name == "nt":
        return set()  # no record locks, no way to know
    return {name for name in names() if _is_abandoned(Path(tempfile.gettempdir()) / name)}


def _is_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # gone meanwhile, or somebody else's
    try:
        # Without its version it is being made, and its lock is still to come.
        if os.fstat(descriptor).st_uid != os.getuid() or os.pread(descriptor, 8, 0) != VERSION:
            return False
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True

"""Where single figures are in the files of this process, to be written without a detour.

The client library makes metrics, files and their entries; it says where in a file a figure is, too.
Writing one through it takes a microsecond, with a lock for all figures, and a message has seven.
"""

from __future__ import annotations

import json
import mmap
import os
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Cell", "CellFile"]

_pack = Struct("=d").pack


class Cell:
    """One figure. Not for two threads at a time.

    Args:
        memory: The file.
        at: Where in it the figure is.
    """

    __slots__ = ("_end", "_memory", "_start", "value")

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        self._memory = memory
        self._start, self._end = at, at + 8
        (self.value,) = Struct("=d").unpack_from(memory, at)

    def add(self, amount: float) -> None:
        """Raise it."""
        self.set(self.value + amount)

    def set(self, value: float) -> None:
        """Change it."""
        self.value = value
        # In one step: whoever reads the file meanwhile sees the old figure or the new one.
        self._memory[self._start : self._end] = _pack(value)


class CellFile:
    """A file of this process that the client library writes.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[tuple[str, frozenset[tuple[str, str]]], int] = {}
        self._memory: mmap.mmap | None = None

    def cell(self, name: str, labels: Mapping[str, str]) -> Cell:
        """Return where a sample is, which the client library has made.

        Raises:
            KeyError: If it has not.
        """
        sample = name, frozenset(labels.items())
        if sample not in self._places:
            self._read()
        return Cell(self._reaching(self._places[sample] + 16), self._places[sample])

    def _read(self) -> None:
        from prometheus_client.mmap_dict import MmapedDict

        for key, _, _, at in MmapedDict.read_all_values_from_file(str(self._path)):
            _, name, labels, _ = json.loads(key)
            self._places[name, frozenset(labels.items())] = at

    def _reaching(self, end: int) -> mmap.mmap:
        """Return the file up to there at least. It grows, and what is in it never moves."""
        if self._memory is None or len(self._memory) < end:
            with self._path.open("r+b") as file:
                if hasattr(os, "posix_fallocate"):
                    # It has grown without, and to write where there is none left would kill.
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
                self._memory = mmap.mmap(file.fileno(), 0)
        return self._memory

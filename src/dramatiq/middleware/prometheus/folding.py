"""Adding up the files of processes that are gone, so that recycled ones do not pile up.

The sums and what they replace must never both count, whenever this process is killed. So the sums
are written under other names first; then a note of what to rename and what to remove takes its
place in one step. From then on the step is as good as done: whoever comes next finishes it.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

from ...failpoints import hit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["finish", "fold"]


def fold(folder: Path, program: str, number: int, by_kind: Mapping[str, Sequence[Path]]) -> None:
    """Put one file of each kind in place of many.

    Args:
        folder: Where they are.
        program: Whose they are.
        number: Tells the new files from those of the last time.
        by_kind: The old files by kind.
    """
    names = {kind: f"{kind}_{program}-folded{number}.db" for kind in by_kind}
    for kind, paths in by_kind.items():
        draft = folder / f"{names[kind]}.draft"
        draft.unlink(missing_ok=True)
        _add_up(paths, draft)
    old = [path.name for paths in by_kind.values() for path in paths]
    draft = folder / f"folding_{program}.draft"
    draft.write_text(json.dumps({"new": list(names.values()), "old": old}))
    hit("prometheus.fold.before_note")
    draft.replace(_note(folder, program))
    hit("prometheus.fold.after_note")
    finish(folder, program)


def finish(folder: Path, program: str) -> None:
    """Do what the last `fold` may have left to do."""
    note = _note(folder, program)
    try:
        names = json.loads(note.read_text())
    except FileNotFoundError:
        return
    for name in names["new"]:
        draft = folder / f"{name}.draft"
        if draft.exists():
            draft.replace(folder / name)
    for name in names["old"]:
        (folder / name).unlink(missing_ok=True)
    note.unlink()


def _note(folder: Path, program: str) -> Path:
    return folder / f"folding_{program}.json"


def _add_up(paths: Sequence[Path], target: Path) -> None:
    from prometheus_client.mmap_dict import MmapedDict, mmap_key
    from prometheus_client.multiprocess import MultiProcessCollector

    with closing(MmapedDict(str(target))) as figures:
        for metric in MultiProcessCollector.merge(map(str, paths), accumulate=False):
            for sample in metric.samples:
                names, values = list(sample.labels), list(sample.labels.values())
                key = mmap_key(metric.name, sample.name, names, values, metric.documentation)
                figures.write_value(key, sample.value, 0.0)

"""From measurements to the report. Pure: every step takes values and returns values.

The same measurements give the same report, byte for byte: everything is sorted, and nothing here
looks at a clock.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .measure import Measurement

__all__ = ["Findings", "Ranking", "Summary", "merge", "rank", "render", "summarise"]

#: Rows of each table.
TOP = 10
#: Functions a package must have to be called complex: fewer say little.
MIN_FUNCTIONS = 20
#: The numbers that can be added up.
_COUNTED = ("lines", "functions", "classes", "branches", "compressed")


class Summary(TypedDict):
    """What is to be known about one package."""

    package: str
    totals: dict[str, int]
    #: For each module, how many files import it.
    imports: dict[str, int]
    #: Path and lines of the biggest files, the biggest first.
    biggest: list[tuple[str, int]]


class Findings(TypedDict):
    """What is to be known about all packages."""

    totals: dict[str, int]
    imports: dict[str, int]
    biggest: list[tuple[str, int]]
    #: Package, functions, branches.
    packages: list[tuple[str, int, int]]


class Ranking(TypedDict):
    """The rows of the report's tables."""

    totals: dict[str, int]
    biggest: list[tuple[str, int]]
    most_imported: list[tuple[str, int]]
    #: Package, functions, branches per function.
    most_complex: list[tuple[str, int, float]]


def summarise(package: str, files: Mapping[str, Measurement]) -> Summary:
    """Add up the files of one package."""
    # Zeros too: a package may hold no file that could be measured.
    totals = Counter({"files": len(files), **dict.fromkeys(_COUNTED, 0)})
    imports: Counter[str] = Counter()
    for measurement in files.values():
        totals.update({name: measurement[name] for name in _COUNTED})  # type: ignore[literal-required]  # the names above
        imports.update(measurement["imports"])
    biggest = _top((path, measurement["lines"]) for path, measurement in files.items())
    return Summary(package=package, totals=totals, imports=imports, biggest=biggest)


def merge(summaries: Sequence[Summary]) -> Findings:
    """Add up the packages."""
    totals: Counter[str] = Counter(packages=len(summaries))
    imports: Counter[str] = Counter()
    for summary in summaries:
        totals.update(summary["totals"])
        imports.update(summary["imports"])
    return Findings(
        totals=totals,
        imports=imports,
        biggest=_top(row for summary in summaries for row in summary["biggest"]),
        packages=[
            (summary["package"], summary["totals"]["functions"], summary["totals"]["branches"])
            for summary in summaries
        ],
    )


def rank(findings: Findings) -> Ranking:
    """Choose what the report shows."""
    complexity = [
        (package, functions, branches / functions)
        for package, functions, branches in findings["packages"]
        if functions >= MIN_FUNCTIONS
    ]
    return Ranking(
        totals=findings["totals"],
        biggest=_top(findings["biggest"]),
        most_imported=_top(findings["imports"].items()),
        most_complex=sorted(complexity, key=lambda row: (-row[2], row[0]))[:TOP],
    )


def render(title: str, ranking: Ranking, failures: Mapping[str, str]) -> str:
    """Write the report.

    Args:
        title: What was surveyed.
        ranking: The rows.
        failures: For each file that could not be measured, why.
    """
    totals = ranking["totals"]
    names = ("packages", "files", "lines", "functions", "classes", "compressed")
    return "\n\n".join(
        [
            f"{title}\n{'=' * len(title)}",
            _table("Totals", [(name, f"{totals.get(name, 0):,}") for name in names]),
            _table("Biggest files (lines)", [(p, f"{n:,}") for p, n in ranking["biggest"]]),
            _table(
                "Most imported modules (files that import them)",
                [(module, f"{count:,}") for module, count in ranking["most_imported"]],
            ),
            _table(
                f"Most complex packages (branches per function, from {MIN_FUNCTIONS} functions on)",
                [(package, f"{ratio:.2f}") for package, _, ratio in ranking["most_complex"]],
            ),
            _list(f"Files that could not be measured: {len(failures)}", failures),
        ]
    )


def _top(rows: Iterable[Sequence[str | int]]) -> list[tuple[str, int]]:
    """Return the rows with the highest numbers, those of the same number by name."""
    pairs = [(str(name), int(number)) for name, number in rows]
    return sorted(pairs, key=lambda row: (-row[1], row[0]))[:TOP]


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return f"{title}\n  none"
    left = max(len(name) for name, _ in rows)
    right = max(len(number) for _, number in rows)
    return "\n".join([title, *(f"  {name:<{left}}  {number:>{right}}" for name, number in rows)])


def _list(title: str, reasons: Mapping[str, str]) -> str:
    return "\n".join([title, *(f"  {path}\n    {why}" for path, why in sorted(reasons.items()))])

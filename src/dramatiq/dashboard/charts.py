"""Charts as SVG, drawn by the server: no script, no style attribute. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Bar", "draw_throughput", "scale_of"]

WIDTH, HEIGHT = 960, 190
#: Room for the labels: left of the bars, and below.
LEFT, BOTTOM, TOP = 44, 22, 10


class Bar(NamedTuple):
    """One minute."""

    label: str
    done: int
    failed: int
    retried: int

    @property
    def total(self) -> int:
        """All attempts."""
        return self.done + self.failed + self.retried


def scale_of(most: int) -> int:
    """Return where an axis ends: the next round number.

    >>> [scale_of(most) for most in (0, 3, 7, 12, 41, 160, 999)]
    [4, 4, 8, 20, 60, 200, 1000]
    """
    size = 1
    while True:
        for step in (4, 6, 8, 10, 20):
            if most <= step * size:
                return step * size
        size *= 10


def draw_throughput(bars: Sequence[Bar]) -> Markup:
    """Return stacked bars, one a minute, the oldest first; each tells its figures in a title."""
    top = scale_of(max((bar.total for bar in bars), default=0))
    height = HEIGHT - BOTTOM - TOP
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT, _summary(bars)
        )
    ]
    for quarter in range(5):
        y = TOP + height - height * quarter / 4
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="axis" x="{}" y="{:.1f}" text-anchor="end">{:,}</text>'
            ).format(LEFT, WIDTH, y, y, LEFT - 8, y + 4, top * quarter // 4)
        )
    step = (WIDTH - LEFT) / max(len(bars), 1)
    for place, bar in enumerate(bars):
        parts.append(_draw_bar(bar, LEFT + step * place, step, height, top))
        if place % 10 == 0:
            parts.append(
                Markup('<text class="axis" x="{:.1f}" y="{}">{}</text>').format(
                    LEFT + step * place, HEIGHT - 5, bar.label
                )
            )
    return Markup("").join([*parts, Markup("</svg>")])


def _draw_bar(bar: Bar, x: float, step: float, height: int, top: int) -> Markup:
    title = f"{bar.label}: {bar.done:,} done, {bar.retried:,} retried, {bar.failed:,} failed"
    parts = [Markup("<g><title>{}</title>").format(title)]
    # The full column can be pointed at, however low the bar is.
    parts.append(
        Markup('<rect class="column" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>').format(
            x, TOP, step, height
        )
    )
    y = float(TOP + height)
    for name, count in (("done", bar.done), ("retried", bar.retried), ("failed", bar.failed)):
        if count:
            tall = max(height * count / top, 1.5)
            y -= tall
            parts.append(
                Markup(
                    '<rect class="bar-{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                ).format(name, x + 1, y, max(step - 2, 1), tall)
            )
    return Markup("").join([*parts, Markup("</g>")])


def _summary(bars: Sequence[Bar]) -> str:
    done, failed = sum(bar.done for bar in bars), sum(bar.failed for bar in bars)
    retried = sum(bar.retried for bar in bars)
    return (
        f"Attempts per minute over {len(bars)} minutes: {done:,} done, {retried:,} retried, "
        f"{failed:,} failed. The table below has the figures."
    )

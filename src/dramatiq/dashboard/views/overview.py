"""The first page: how it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import asking
from ..charting import bars_of
from ..charts import draw_throughput
from ..desk import HISTORY_IS_OFF, ask
from .page import Page, Tab

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["PAGES", "TAB"]

#: Groups of failures and queues that are shown here.
MOST = 6
#: Dead letters that are looked at to find the latest groups.
LOOKED_AT = 200


def show(visit: Visit) -> Response:
    """Show sums, throughput, the fullest queues and the latest failures."""
    queues, why = ask(lambda: asking.queues(visit.desk), [])
    sums = asking.overview(visit.desk, queues)
    queues.sort(key=lambda each: (-each["ready"], each["name"]))
    failures, _ = ask(lambda: asking.failures(visit.desk, look_at=LOOKED_AT), {"groups": []})
    bars = None if sums["throughput"] is None else bars_of(sums["throughput"])
    return visit.render(
        "overview.html",
        sums=sums,
        queues=queues[:MOST],
        more_queues=max(len(queues) - MOST, 0),
        groups=failures["groups"][:MOST],
        bars=bars,
        chart=None if bars is None else draw_throughput(bars),
        why=why,
        history_is_off=HISTORY_IS_OFF,
    )


PAGES = [Page("/", show)]
TAB = Tab("Overview", "/", "overview")

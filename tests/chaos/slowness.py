"""How much slower than a quiet machine this one is now, for bounds on how long things take.

A bound holds for a quiet machine. Where others keep the processors busy too, whatever a test waits
for takes longer by the factor by which a little work takes longer than the processor time it needs.
"""

from __future__ import annotations

import statistics
import threading
import time

#: Seconds of processor time that each probe takes, and seconds between two of them.
PROBE_S, PAUSE_S = 0.01, 0.1


class Slowness:
    """Measures as long as a with statement runs.

    Attributes:
        factor: What to multiply a bound with: 1 where nine of ten probes were undisturbed.
    """

    def __init__(self):
        self._ratios = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._probe, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()

    @property
    def factor(self):
        if len(self._ratios) < 2:
            return 1.0
        return max(1.0, statistics.quantiles(self._ratios, n=10)[-1])

    def _probe(self):
        while not self._stopping.wait(PAUSE_S):
            began, began_working = time.monotonic(), time.thread_time()
            while time.thread_time() - began_working < PROBE_S:
                pass
            self._ratios.append((time.monotonic() - began) / PROBE_S)

"""How long work takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

RATE_SECONDS = 0.4
"""How long a rate is measured."""


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def p50(work: Callable[[], object], times: int) -> float:
    """The median of `times` runs, in seconds, after a tenth as many to warm up."""
    for _ in range(times // 10):
        work()
    return statistics.median(seconds(work) for _ in range(times))


def rate(batch: Callable[[], int], flush: Callable[[], object] = lambda: None) -> float:
    """How many a second of what `batch` does so many of, until `flush` has returned."""
    batch()
    flush()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < RATE_SECONDS:
        done += batch()
    flush()
    return done / (time.perf_counter() - start)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[-1]

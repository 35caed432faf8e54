"""What processes cost that have answered once and now wait.

`python -m bench.programs.standing ours 64 2` prints the bytes of memory for each, the threads of each, and, measured for two
seconds, the share of a core that all of them and this process use, in percent; `forks`, `spawn` and `forkserver` of others.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator

from bench import pipes
from bench.processes import cpu_seconds, descendants, pss_bytes, threads

SETTLE_SECONDS = 0.5


@contextlib.contextmanager
def ours(count: int) -> Iterator[list[int]]:
    from bench.calls import procs

    with procs(count) as echoes:
        yield [pid for _, pid in echoes.pid.call().get(timeout=120).items()]


@contextlib.contextmanager
def forks(count: int) -> Iterator[list[int]]:
    from bench.programs.forks import Children

    children = Children(count)
    children.ask()
    try:
        yield children.pids
    finally:
        children.end()


@contextlib.contextmanager
def peers(count: int, method: str) -> Iterator[list[int]]:
    made = pipes.start(count, method)
    try:
        pipes.ask_all(made)
        yield [process.pid or 0 for process, _ in made]
    finally:
        pipes.stop(made)


def measure(pids: list[int], idle_seconds: float) -> list[float]:
    time.sleep(SETTLE_SECONDS)
    below = descendants(os.getpid())
    cpu, own = cpu_seconds(below), time.process_time()  # of this process without what it takes to look at the others
    time.sleep(idle_seconds)
    own = time.process_time() - own
    idle = cpu_seconds(below) - cpu + own
    memory = sum(map(pss_bytes, below))
    figures = [memory / len(pids), statistics.mean(map(threads, pids))]
    return [*figures, 100 * idle / idle_seconds] if idle_seconds else figures


if __name__ == "__main__":
    side, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with {"ours": ours, "forks": forks}.get(side, lambda count: peers(count, side))(count) as pids:
        print(json.dumps(measure(pids, seconds)))

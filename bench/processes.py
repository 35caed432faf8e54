"""What processes use, as the kernel counts it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """Every process below `pid`."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def own_cpu_seconds(pid: int) -> float:
    """Processor time of a process; 0 when it has ended."""
    with suppress(OSError):
        # The clock of another process, as clock_getcpuclockid gives it; /proc counts in ticks of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes, and of children of theirs that have ended."""
    total = 0.0
    for pid in pids:
        total += own_cpu_seconds(pid)
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[13]) + int(fields[14])) / TICKS
    return total


def tree_cpu_seconds() -> float:
    """Of this process and all below it."""
    return cpu_seconds([os.getpid(), *descendants(os.getpid())])


def pss_bytes(pid: int) -> int:
    """Memory of a process, where what it shares with others is divided by their number; 0 when it has ended."""
    return _in_rollup(pid, "Pss:")


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that is no file's, shared or not; 0 when it has ended."""
    return _in_rollup(pid, "Anonymous:")


def _in_rollup(pid: int, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))

"""What the programs on all libraries have in common. No library is imported here, and nothing of the rest of bench."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path

SPAWNS = (16, 64)
CALLS, WINDOW, RATE_SECONDS = 200, 200, 1.0
BUFFER_MIB = 256
KILL_SECONDS = 30.0


def median_of(took: list[float]) -> float:
    """Without the first tenth, which warms up."""
    return statistics.median(took[len(took) // 10 :])


def memory_below() -> int:
    """PSS of all processes below this one, in bytes."""

    def below(pid: int) -> list[int]:
        found: list[int] = []
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                for child in map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()):
                    found += [child, *below(child)]
        return found

    total = 0
    for pid in below(os.getpid()):
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


class Found:
    """Values by figure; a part that fails says why and costs only itself."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.failed: dict[str, str] = {}

    def __setitem__(self, figure: str, value: float) -> None:
        self.values[figure] = value

    def print(self) -> None:
        print(json.dumps({"values": self.values, "failed": self.failed}), flush=True)
        sys.stdout.flush()
        # Whatever the library does at the end of the interpreter is not measured; the runner ends what is left.
        os._exit(0)


def looked_at(view: memoryview) -> int:
    """Reads a byte of each page, so that whatever maps lazily is made to read."""
    sum(view[::4096])
    return view.nbytes


class Clock:
    def __init__(self) -> None:
        self.began = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self.began

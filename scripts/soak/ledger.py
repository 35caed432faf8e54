"""What was done, what was checked, what was wrong; and what this process holds."""

import os
import time
from collections import Counter, defaultdict, deque
from pathlib import Path

HISTORY = 40  # entries that are kept of each proc


class Ledger:
    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.faults: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.violations: list[str] = []
        self.unreported = 0  # ends that a launcher was too slow to report
        self.exit_seconds: list[float] = []
        self._history: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=HISTORY))

    def note(self, proc: str, what: str) -> None:
        self._history[proc].append(f"{time.monotonic() - self.begun:8.3f} {what}")

    def fault(self, proc: str, kind: str) -> None:
        self.faults[kind] += 1
        self.note(proc, f"fault: {kind}")

    def check(self, invariant: str, holds: bool, proc: str, what: str) -> None:
        self.checks[invariant] += 1
        if not holds:
            self.note(proc, f"VIOLATION of {invariant}: {what}")
            history = "\n    ".join(self._history[proc])
            self.violations.append(f"{proc}: {invariant}: {what}\n    {history}")


def holdings(pid: int | str = "self") -> dict[str, int]:
    """Descriptors, threads and resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(fields["Threads"]),
        "MiB": int(fields["VmRSS"].split()[0]) // 1024,
    }


def keepers() -> dict[str, int]:
    """What the runtime has started beside procs, by name."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    named = {Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode(): int(pid) for pid in children}
    return {name: pid for name, pid in named.items() if name.startswith("procession-")}

"""Output: from the launch of a program that writes until its exit is known."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

from bench.figures import OURS, Figure, Group, Probe, Theme
from bench.timing import seconds
from procession.actor import this_host

MIB = 64
SIZE = MIB << 20
WRITES = f"exec head -c {SIZE} /dev/zero"

TO_TAIL = f"{MIB} MiB of stderr into the tail"
TO_FILE = f"{MIB} MiB of stderr into a file and the tail"
CAT = "cat through a pipe"
CAT_TO_FILE = "cat through a pipe into a file"

FIGURES = [
    Figure(TO_TAIL, "B/s", [CAT], more_is_better=True),
    Figure(TO_FILE, "B/s", [CAT_TO_FILE], more_is_better=True),
]


def ours(**files: Any) -> list[float]:
    def run() -> None:
        command = ["/bin/sh", "-c", f"{WRITES} >&2"]
        end = this_host().spawn_procs(bootstrap_command=command, readiness="none", **files).wait(60).get().item()
        assert end.ok, end

    return [SIZE / seconds(run)]


def cat(target: str) -> list[float]:
    command = ["/bin/sh", "-c", f'({WRITES}) | cat > "$0"', target]
    return [SIZE / seconds(lambda: subprocess.run(command, check=True))]


def in_folder(run: Callable[[str], list[float]]) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="procession-bench-") as folder:
        return run(folder)


THEME = Theme(
    "output",
    FIGURES,
    [
        Group([Probe(OURS, [TO_TAIL], ours), Probe(CAT, [TO_TAIL], lambda: cat("/dev/null"))]),
        Group(
            [
                Probe(OURS, [TO_FILE], lambda: in_folder(lambda folder: ours(log_dir=folder))),
                Probe(CAT_TO_FILE, [TO_FILE], lambda: in_folder(lambda folder: cat(f"{folder}/cat"))),
            ]
        ),
    ],
)

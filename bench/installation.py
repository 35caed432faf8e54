"""What it takes to install and to import."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.figures import OURS, Figure, Goal, Group, Probe, Skipped, Theme
from bench.running import ROOT
from bench.timing import seconds

TIMES = 5

IMPORT = "import procession.actor"
IMPORT_OVER = "import procession.actor, over a bare interpreter"
SIZE = "installed size, over bare Python"
DISTRIBUTIONS = "distributions that are installed, this one included"

BARE = "bare interpreter"
CLOUDPICKLE = "cloudpickle alone"

FIGURES = [
    Figure(IMPORT, "s", [BARE]),
    Figure(IMPORT_OVER, "s", [], [CLOUDPICKLE], [Goal(0.050)]),
    Figure(SIZE, "B", [], [], [Goal(12e6)]),
    Figure(DISTRIBUTIONS, "", [], [], [Goal(2)]),
]


def importing(module: str) -> float:
    return seconds(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))


def over_bare(module: str) -> list[float]:
    return [statistics.median(importing(module) - importing("sys") for _ in range(TIMES))]


def installed() -> list[float]:
    """Bytes and distributions in a fresh environment, without the launchers that are features."""
    wheels = sorted((ROOT / "dist" / "core").glob("procession-*.whl"))
    if not wheels:
        raise Skipped("there is no wheel in dist/core: `make wheel-core` builds it")
    with tempfile.TemporaryDirectory(prefix="procession-bench-") as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--quiet",
            "--python",
            f"{folder}/bin/python",
        ]
        done = subprocess.run([*pip, "install", str(wheels[-1])], capture_output=True, text=True)
        if done.returncode != 0:
            why = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            raise Skipped(f"pip cannot install {wheels[-1].name} and what it needs: {why}")
        (packages,) = Path(folder).glob("lib/python3*/site-packages")
        size = sum(file.lstat().st_size for file in packages.rglob("*") if file.is_file())
        return [size, len(list(packages.glob("*.dist-info")))]


THEME = Theme(
    "installation",
    FIGURES,
    [
        Group(
            [
                Probe(OURS, [IMPORT], lambda: [importing("procession.actor")]),
                Probe(BARE, [IMPORT], lambda: [importing("sys")]),
            ]
        ),
        Group(
            [
                Probe(OURS, [IMPORT_OVER], lambda: over_bare("procession.actor")),
                Probe(CLOUDPICKLE, [IMPORT_OVER], lambda: over_bare("cloudpickle")),
            ]
        ),
        Group([Probe(OURS, [SIZE, DISTRIBUTIONS], installed)], rounds=1),
    ],
)

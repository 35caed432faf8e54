"""What a launcher that is written in Python adds to the native one."""

from __future__ import annotations

import statistics
import time

from bench.actors import Plain
from bench.figures import OURS, Figure, Goal, Group, Probe, Theme
from bench.spawn import ours
from procession.actor import this_host
from procession.launch import ProcLauncher

PROGRAMS, TIMES = 32, 3

THROUGH_PYTHON = "8 procs through a Python launcher"
OVERHEAD = f"a Python launcher over the native one, for each of {PROGRAMS} programs"
NATIVE = "the native launcher"

FIGURES = [
    Figure(THROUGH_PYTHON, "s", [NATIVE]),
    Figure(OVERHEAD, "s", [], [], [Goal(0.001)]),
]


def procs(launcher: type[ProcLauncher] | None) -> list[float]:
    took, _, _ = ours(8, launcher)
    return [took]


def programs(launcher: type[ProcLauncher] | None) -> float:
    """Seconds until programs run which both kinds of launcher start in the same way, without any Python in them."""
    start = time.perf_counter()
    mesh = this_host().spawn_procs(
        per_host={"programs": PROGRAMS}, bootstrap_command=["sleep", "1000"], readiness="none", launcher=launcher
    )
    try:
        mesh.initialized.get(timeout=60)
        return time.perf_counter() - start
    finally:
        mesh.kill().get(timeout=60)


def overhead() -> list[float]:
    programs(Plain)  # the launcher's own process is started here, and kept
    return [statistics.median((programs(Plain) - programs(None)) / PROGRAMS for _ in range(TIMES))]


THEME = Theme(
    "launchers",
    FIGURES,
    [
        Group(
            [
                Probe(OURS, [THROUGH_PYTHON], lambda: procs(Plain)),
                Probe(NATIVE, [THROUGH_PYTHON], lambda: procs(None)),
            ]
        ),
        Group([Probe(OURS, [OVERHEAD], overhead)]),
    ],
)

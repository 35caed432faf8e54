"""What procs cost that do nothing: memory, threads, processor time."""

from __future__ import annotations

from bench import pipes
from bench.figures import OURS, Figure, Goal, Group, Probe, Theme
from bench.running import program

PROCS = 64

MEMORY = f"memory of each of {PROCS} procs, PSS with all that launches them"
THREADS = "threads of a proc"
IDLE = f"processor time of {PROCS} idle procs and their client"
FORKS = "forks of a warm interpreter"

FIGURES = [
    Figure(MEMORY, "B", [FORKS], [pipes.FORKSERVER, pipes.SPAWN], [Goal(4e6)]),
    Figure(THREADS, "", [FORKS], [pipes.FORKSERVER], [Goal(4)]),
    Figure(IDLE, "%", [], [pipes.FORKSERVER], [Goal(0.2)]),
]

ALL = [MEMORY, THREADS, IDLE]


def standing(side: str, idle_seconds: float = 0) -> list[float]:
    return program("standing", side, PROCS, idle_seconds)


THEME = Theme(
    "standing",
    FIGURES,
    [
        Group(
            [
                Probe(OURS, ALL, lambda: standing("ours", 2)),
                Probe(FORKS, ALL[:2], lambda: standing("forks")),
                Probe(pipes.FORKSERVER, ALL, lambda: standing("forkserver", 2)),
                Probe(pipes.SPAWN, ALL[:1], lambda: standing("spawn")[:1]),
            ]
        )
    ],
)

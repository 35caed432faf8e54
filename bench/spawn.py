"""Launches and ends of many procs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from bench import pipes
from bench.actors import Echo
from bench.figures import OURS, Figure, Goal, Group, Probe, Theme
from bench.processes import tree_cpu_seconds
from bench.running import program
from bench.timing import seconds
from procession.actor import this_host
from procession.launch import ProcLauncher

FORKS = "fork of a warm interpreter that replies"
BARE = "python -c pass"
BARE_MANY = "as many times python -c pass"
EXITS = "fork and _exit"
TOLD = "forks that are told to end"


def spawned(procs: int) -> str:
    return f"spawn {procs} Python procs until each answered a call"


WARM = "spawn one Python proc, warm, until it answered a call"
COLD = "spawn one Python proc, the first of a client, until it answered a call"
CPU = "processor time of each proc launched, of 64"
STOP = "clean shutdown of 64 procs"

FIGURES = [
    Figure(spawned(16), "s", [FORKS, BARE_MANY], [pipes.SPAWN, pipes.FORKSERVER]),
    Figure(
        spawned(64),
        "s",
        [FORKS],
        [pipes.SPAWN, pipes.FORKSERVER],
        [Goal(6, FORKS), Goal(1, pipes.FORKSERVER)],
    ),
    Figure(spawned(128), "s", [FORKS], [pipes.FORKSERVER], [Goal(0.8)]),
    Figure(spawned(1000), "s", [FORKS], [], [Goal(7)]),
    Figure(WARM, "s", [FORKS], [pipes.SPAWN, pipes.FORKSERVER], [Goal(0.015)]),
    Figure(COLD, "s", [BARE], [], [Goal(0.150)]),
    Figure(CPU, "s", [FORKS], [pipes.SPAWN, pipes.FORKSERVER], [Goal(0.008)]),
    Figure(STOP, "s", [EXITS, TOLD], [pipes.SPAWN, pipes.FORKSERVER], [Goal(4, EXITS)]),
]


def ours(procs: int, launcher: type[ProcLauncher] | None = None) -> list[float]:
    """Seconds until all have answered, processor time for each until then, seconds until all have ended after that."""
    cpu, start = tree_cpu_seconds(), time.perf_counter()
    # As the peers that fork have what they run imported beforehand.
    mesh = this_host().spawn_procs(per_host={"workers": procs}, launcher=launcher, preload=["bench.actors"])
    try:
        answers = mesh.spawn("echo", Echo).echo.call(1).get(timeout=120)
        took, cpu = time.perf_counter() - start, tree_cpu_seconds() - cpu
        assert len(answers) == procs
    finally:
        began = time.perf_counter()
        mesh.stop().get(timeout=60)
    return [took, cpu / procs, time.perf_counter() - began]


def peer(procs: int, method: str) -> list[float]:
    cpu = tree_cpu_seconds()
    spawn, stop = pipes.spawn(procs, pipes.METHODS[method])
    return [spawn, (tree_cpu_seconds() - cpu) / procs, stop]


def bare(procs: int) -> list[float]:
    def run() -> None:
        for process in [subprocess.Popen([sys.executable, "-c", "pass"]) for _ in range(procs)]:
            process.wait()

    return [seconds(run)]


def forks(procs: int) -> list[float]:
    return program("forks", "answer", procs)


def first(run, count: int = 1):
    """Only the first values of what `run` measures."""
    return lambda: run()[:count]


def group(procs: int, name: str, peers: Sequence[str], rounds: int | None = None) -> Group:
    probes = [Probe(OURS, [name], first(lambda: ours(procs))), Probe(FORKS, [name], first(lambda: forks(procs)))]
    probes += [Probe(method, [name], first(lambda method=method: peer(procs, method))) for method in peers]
    return Group(probes, rounds)


def sixty_four() -> Group:
    methods = [pipes.SPAWN, pipes.FORKSERVER]
    return Group(
        [
            Probe(OURS, [spawned(64), CPU, STOP], lambda: ours(64)),
            Probe(FORKS, [spawned(64), CPU], lambda: forks(64)),
            *[Probe(method, [spawned(64), CPU, STOP], lambda method=method: peer(64, method)) for method in methods],
            Probe(EXITS, [STOP], lambda: program("forks", "exit", 64)),
            Probe(TOLD, [STOP], lambda: program("forks", "told", 64)),
        ]
    )


def sixteen() -> Group:
    made = group(16, spawned(16), [pipes.SPAWN, pipes.FORKSERVER])
    return Group([*made.probes, Probe(BARE_MANY, [spawned(16)], lambda: bare(16))])


def cold() -> list[float]:
    return program("cold")


THEME = Theme(
    "spawn",
    FIGURES,
    [
        sixteen(),
        sixty_four(),
        group(128, spawned(128), [pipes.FORKSERVER]),
        group(1, WARM, [pipes.SPAWN, pipes.FORKSERVER]),
        Group([Probe(OURS, [COLD], cold), Probe(BARE, [COLD], lambda: bare(1))]),
        group(1000, spawned(1000), []),
    ],
)

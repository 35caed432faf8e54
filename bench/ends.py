"""Deaths: from SIGKILL until it is known."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench import pipes
from bench.actors import Echo
from bench.figures import OURS, Figure, Goal, Group, Probe, Theme
from bench.timing import p99
from procession.actor import this_host
from procession.errors import SupervisionError

KILLS = 10
DEATHS = 100
PROCS = 16

FAILS = "SIGKILL until the waiting call fails"
FAILS_WORST = "SIGKILL until the waiting call fails, worst"
EXIT_P50 = f"SIGKILL until wait gives the exit, beside {PROCS} live procs, p50"
EXIT_P99 = EXIT_P50.replace("p50", "p99")

RAW = "EOF of a raw socket of such a proc"
PIPE = "EOF of a Pipe"
POLL = "poll of a plain child's pidfd"

FIGURES = [
    Figure(FAILS, "s", [RAW], [PIPE], [Goal(2, RAW)]),
    Figure(FAILS_WORST, "s", [RAW], [PIPE], [Goal(0.050)], worst=True),
    Figure(EXIT_P50, "s", [POLL]),
    Figure(EXIT_P99, "s", [POLL]),
]


def middle_and_worst(took: list[float]) -> list[float]:
    return [statistics.median(took), max(took)]


@contextlib.contextmanager
def victims() -> Iterator[tuple[Any, list[int]]]:
    """Actors and the pids of their procs, one of each, all ready."""
    mesh = this_host().spawn_procs(per_host={"workers": KILLS})
    try:
        echoes = mesh.spawn("echo", Echo)
        yield echoes, [pid for _, pid in echoes.pid.call().get(timeout=60).items()]
    finally:
        mesh.stop().get(timeout=60)


def killed(pid: int, wait: Callable[[], object]) -> float:
    """Seconds until `wait` returns; killed is who has `pid`."""
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    wait()
    return time.perf_counter() - start


def fails() -> list[float]:
    took = []
    with victims() as (echoes, pids):
        for rank, pid in enumerate(pids):
            waiting = echoes.slice(workers=rank).hang.call_one()

            def wait(waiting=waiting) -> None:
                with contextlib.suppress(SupervisionError):
                    raise AssertionError(f"the call to a killed proc gave {waiting.get(timeout=60)}")

            took.append(killed(pid, wait))
    return middle_and_worst(took)


def fails_raw() -> list[float]:
    """The end of a plain connection that such a proc had made."""
    took = []
    folder = tempfile.TemporaryDirectory(prefix="procession-bench-")
    with victims() as (echoes, pids), folder as path, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}/raw")
        listener.listen()
        for rank, pid in enumerate(pids):
            echoes.slice(workers=rank).connect.call_one(f"{path}/raw").get(timeout=60)
            connection, _ = listener.accept()
            with connection:
                took.append(killed(pid, lambda connection=connection: connection.recv(1)))
    return middle_and_worst(took)


def fails_pipe() -> list[float]:
    took = []
    made = pipes.start(KILLS)
    try:
        pipes.ask_all(made)
        for process, connection in made:

            def wait(connection=connection) -> None:
                with contextlib.suppress(EOFError):
                    raise AssertionError(f"the pipe of a killed process gave {connection.recv()}")

            took.append(killed(process.pid or 0, wait))
    finally:
        pipes.stop(made)
    return middle_and_worst(took)


def exits(deaths) -> list[float]:
    with this_host().spawn_procs(per_host={"workers": PROCS}) as others:
        others.initialized.get(timeout=60)
        took = [deaths() for _ in range(DEATHS)]
    return [statistics.median(took), p99(took)]


def exit_ours() -> float:
    victim = this_host().spawn_procs(bootstrap_command=["sleep", "1000"], readiness="none")
    victim.initialized.get(timeout=60)
    pid = victim.statuses().item().pid
    assert pid is not None
    took = killed(pid, lambda: victim.wait(60).get())
    assert victim.exits().item().signal == signal.SIGKILL
    return took


def exit_child() -> float:
    with subprocess.Popen(["sleep", "1000"]) as child:
        pidfd = os.pidfd_open(child.pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        took = killed(child.pid, poll.poll)
        os.close(pidfd)
    return took


THEME = Theme(
    "ends",
    FIGURES,
    [
        Group(
            [
                Probe(side, [FAILS, FAILS_WORST], run)
                for side, run in ((OURS, fails), (RAW, fails_raw), (PIPE, fails_pipe))
            ]
        ),
        Group(
            [
                Probe(OURS, [EXIT_P50, EXIT_P99], lambda: exits(exit_ours)),
                Probe(POLL, [EXIT_P50, EXIT_P99], lambda: exits(exit_child)),
            ]
        ),
    ],
)

"""Prints one table, and writes one JSON file, of what Procession costs beside a bound and a peer measured in the same run.

Every figure is measured in rounds, interleaved with its bound and its peer, so that a busy machine is busy for all of
them; the table gives the median of the rounds, the range, and the ratios. Peers are those of the standard library.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import procession.actor
from procession.actor import Actor, endpoint, this_host
from procession.errors import SupervisionError
from procession.launch import LaunchOptions, Port, ProcExitResult, ProcLauncher, supervise

PROCS = 16
CALLS = 500
DEATHS = 100

IMPORT = "import procession.actor"
SPAWN = f"spawn {PROCS} Python procs until each answered a call"
CALL = "call from the client to a proc, tiny payload, p50"
CALL_ACROSS = "call from one proc to another, tiny payload, p50"
CALL_ALL = f"call to {PROCS} procs and all answers, p50"
FAILS = "SIGKILL until the waiting call fails"
EXIT_P50 = f"SIGKILL until wait gives the exit, beside {PROCS} live procs, p50"
EXIT_P99 = EXIT_P50.replace("p50", "p99")
LAUNCHER = "8 procs through a Python launcher"
OUTPUT_MIB = 64
TO_TAIL = f"{OUTPUT_MIB} MiB of stderr into the tail"
TO_FILE = f"{OUTPUT_MIB} MiB of stderr into a file and the tail"
RATES = {TO_TAIL, TO_FILE}
"""Figures in bytes a second, and not in seconds."""

HEADING = ["figure", "Procession", "bound", "of the bound", "peer", "of the peer"]
# The rows in their order: what the bound is, and what the peer.
FIGURES = {
    SPAWN: ("as many times python -c pass", "multiprocessing, spawn"),
    CALL: ("", "multiprocessing.Pipe ping"),
    CALL_ACROSS: ("", "multiprocessing.Pipe ping between two children"),
    CALL_ALL: ("", "a loop over as many Pipes"),
    FAILS: ("", "EOF of a Pipe"),
    EXIT_P50: ("poll of a plain child's pidfd", ""),
    EXIT_P99: ("poll of a plain child's pidfd", ""),
    LAUNCHER: ("the native launcher", ""),
    TO_TAIL: ("cat through a pipe", ""),
    TO_FILE: ("cat through a pipe into a file", ""),
    IMPORT: ("bare interpreter", ""),
}


class Echo(Actor):
    @endpoint
    def echo(self, value: int) -> int:
        return value

    @endpoint
    def pid(self) -> int:
        return os.getpid()

    @endpoint
    def hang(self) -> None:
        signal.pause()

    @endpoint
    def call_other(self, other: Echo) -> float:
        return p50(lambda: other.echo.call_one(1).get(), CALLS)


class Plain(ProcLauncher):
    """A launcher that does what the native one does, so that what it adds is the way through it."""

    def __init__(self, params: dict | None = None) -> None:
        super().__init__(params)
        self.procs: dict = {}

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        self.procs[proc_id] = await supervise(opts)
        exit_port.send(await self.procs[proc_id].wait())

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        await self.procs[proc_id].terminate(timeout_secs)

    @endpoint
    async def kill(self, proc_id: str) -> None:
        await self.procs[proc_id].kill()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def p50(work: Callable[[], object], times: int) -> float:
    for _ in range(times // 10):
        work()
    return statistics.median(seconds(work) for _ in range(times))


# --- spawn: from the request until every proc has answered one call ---------------------------------------------


def spawn_procession(launcher: type[ProcLauncher] | None = None, procs: int = PROCS) -> float:
    start = time.perf_counter()
    mesh = this_host().spawn_procs(per_host={"workers": procs}, launcher=launcher)
    mesh.spawn("echo", Echo).echo.call(1).get(timeout=120)
    took = time.perf_counter() - start
    mesh.stop().get(timeout=60)
    return took


def _answer(connection: Connection) -> None:
    while (value := connection.recv()) is not None:
        connection.send(value)


def _ping(connection: Connection, result: Connection) -> None:
    def ping() -> None:
        connection.send(1)
        connection.recv()

    result.send(p50(ping, CALLS))
    connection.send(None)


def pipes(procs: int) -> list[tuple[multiprocessing.process.BaseProcess, Connection]]:
    context = multiprocessing.get_context("spawn")
    made = []
    for _ in range(procs):
        ours, theirs = context.Pipe()
        process = context.Process(target=_answer, args=(theirs,))
        process.start()
        theirs.close()
        made.append((process, ours))
    return made


def close(made: list[tuple[multiprocessing.process.BaseProcess, Connection]]) -> None:
    for process, connection in made:
        if process.is_alive():
            connection.send(None)
        process.join()
        connection.close()


def ask_all(made: list[tuple[multiprocessing.process.BaseProcess, Connection]]) -> None:
    for _, connection in made:
        connection.send(1)
    for _, connection in made:
        connection.recv()


def spawn_multiprocessing() -> float:
    start = time.perf_counter()
    made = pipes(PROCS)
    ask_all(made)
    took = time.perf_counter() - start
    close(made)
    return took


def spawn_bound() -> float:
    def run() -> None:
        for process in [subprocess.Popen([sys.executable, "-c", "pass"]) for _ in range(PROCS)]:
            process.wait()

    return seconds(run)


# --- messages --------------------------------------------------------------------------------------------------


def call_procession() -> tuple[float, float, float]:
    mesh = this_host().spawn_procs(per_host={"workers": PROCS})
    echoes = mesh.spawn("echo", Echo)
    one, other = echoes.slice(workers=0), echoes.slice(workers=1)
    single = p50(lambda: one.echo.call_one(1).get(), CALLS)
    across = one.call_other.call_one(other).get(timeout=60)
    everyone = p50(lambda: echoes.echo.call(1).get(), CALLS // 5)
    mesh.stop().get(timeout=60)
    return single, across, everyone


def call_pipes() -> tuple[float, float, float]:
    made = pipes(PROCS)
    single = p50(lambda: ask_all(made[:1]), CALLS)
    across = ping_across()
    everyone = p50(lambda: ask_all(made), CALLS // 5)
    close(made)
    return single, across, everyone


def ping_across() -> float:
    """Measured in a child, while as many others live as there are procs in the measurement beside it."""
    context = multiprocessing.get_context("spawn")
    (one, other), (receiver, sender) = context.Pipe(), context.Pipe(duplex=False)
    children = [context.Process(target=_ping, args=(one, sender)), context.Process(target=_answer, args=(other,))]
    for child in children:
        child.start()
    took = receiver.recv()
    for child in children:
        child.join()
    for connection in (one, other, receiver, sender):
        connection.close()
    return took


# --- death: from SIGKILL until it is known -------------------------------------------------------------------------


def death_procession() -> float:
    mesh = this_host().spawn_procs(per_host={"workers": 1})
    echo = mesh.spawn("echo", Echo)
    pid = echo.pid.call_one().get(timeout=60)
    waiting = echo.hang.call_one()
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    try:
        waiting.get(timeout=60)
    except SupervisionError:
        took = time.perf_counter() - start
    else:
        raise AssertionError("the call to a killed proc did not fail")
    mesh.stop().get(timeout=60)
    return took


def death_pipe() -> float:
    ((process, connection),) = pipes(1)
    ask_all([(process, connection)])
    start = time.perf_counter()
    os.kill(process.pid or 0, signal.SIGKILL)
    try:
        connection.recv()
    except EOFError:
        took = time.perf_counter() - start
    else:
        raise AssertionError("the pipe of a killed process did not end")
    process.join()
    connection.close()
    return took


def exits() -> tuple[list[float], list[float]]:
    """What it takes until a death is known, of procs and of plain children, in turn."""
    procs, children = [], []
    with this_host().spawn_procs(per_host={"workers": PROCS}) as others:
        others.initialized.get(timeout=60)
        for _ in range(DEATHS):
            procs.append(exit_procession())
            children.append(exit_child())
    return procs, children


def exit_procession() -> float:
    victim = this_host().spawn_procs(bootstrap_command=["sleep", "1000"], readiness="none")
    victim.initialized.get(timeout=60)
    pid = victim.statuses().item().pid
    assert pid is not None
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    end = victim.wait(60).get().item()
    took = time.perf_counter() - start
    assert end.signal == signal.SIGKILL
    return took


def exit_child() -> float:
    with subprocess.Popen(["sleep", "1000"]) as child:
        pidfd = os.pidfd_open(child.pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        start = time.perf_counter()
        child.kill()
        poll.poll()
        took = time.perf_counter() - start
        os.close(pidfd)
    return took


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[-1]


# --- output: from the launch of a program that writes until its exit is known --------------------------------------

WRITES = f"exec head -c {OUTPUT_MIB << 20} /dev/zero"


def output_procession(**files: Any) -> float:
    start = time.perf_counter()
    command = ["/bin/sh", "-c", f"{WRITES} >&2"]
    mesh = this_host().spawn_procs(bootstrap_command=command, readiness="none", **files)
    end = mesh.wait(300).get().item()
    assert end.ok, end
    return (OUTPUT_MIB << 20) / (time.perf_counter() - start)


def output_cat(target: str) -> float:
    command = ["/bin/sh", "-c", f'({WRITES}) | cat > "$0"', target]
    return (OUTPUT_MIB << 20) / seconds(lambda: subprocess.run(command, check=True))


def output() -> Iterator[tuple[str, str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        yield TO_TAIL, "procession", output_procession()
        yield TO_TAIL, "bound", output_cat("/dev/null")
        yield TO_FILE, "procession", output_procession(log_dir=folder)
        yield TO_FILE, "bound", output_cat(f"{folder}/cat")


def importing(module: str) -> float:
    return seconds(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))


def measure(rounds: int) -> list[dict]:
    samples: dict[tuple[str, str], list[float]] = {}

    def add(figure: str, who: str, value: float) -> None:
        samples.setdefault((figure, who), []).append(value)

    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        add(SPAWN, "bound", spawn_bound())
        add(SPAWN, "procession", spawn_procession())
        add(SPAWN, "peer", spawn_multiprocessing())
        for who, figures in (("procession", call_procession()), ("peer", call_pipes())):
            for figure, value in zip((CALL, CALL_ACROSS, CALL_ALL), figures, strict=True):
                add(figure, who, value)
        add(FAILS, "procession", death_procession())
        add(FAILS, "peer", death_pipe())
        for who, values in zip(("procession", "bound"), exits(), strict=True):
            add(EXIT_P50, who, statistics.median(values))
            add(EXIT_P99, who, p99(values))
        add(LAUNCHER, "procession", spawn_procession(Plain, 8))
        add(LAUNCHER, "bound", spawn_procession(None, 8))
        for figure, who, rate in output():
            add(figure, who, rate)
        add(IMPORT, "procession", importing("procession.actor"))
        add(IMPORT, "bound", importing("sys"))

    rows = []
    for figure, (bound_is, peer_is) in FIGURES.items():
        unit = "B/s" if figure in RATES else "s"
        row: dict = {"figure": figure, "unit": unit, "bound_is": bound_is, "peer_is": peer_is}
        for who in ("procession", "bound", "peer"):
            values = samples.get((figure, who))
            row[who] = values and {"median": statistics.median(values), "min": min(values), "max": max(values)}
        rows.append(row)
    return rows


def digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def show(row: dict, who: str, what: str = "") -> str:
    value = row[who]
    if not value:
        return "-"
    if row["unit"] == "B/s":
        unit, scale = "MB/s", 1e-6
    else:
        unit, scale = ("s", 1) if value["median"] >= 1 else ("ms", 1e3) if value["median"] >= 1e-3 else ("µs", 1e6)
    median, least, most = (digits(value[name] * scale) for name in ("median", "min", "max"))
    text = f"{median} {unit} ({least}-{most})"
    return f"{text} {what}".rstrip()


def ratio(row: dict, other: str) -> str:
    return f"{row['procession']['median'] / row[other]['median']:.2f}x" if row[other] else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench-results.json"))
    options = parser.parse_args()
    procession.actor.unhandled_fault_hook = lambda failure: None  # procs are killed here, and that is measured
    rows = measure(options.rounds)
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"\n{machine}; median of {options.rounds} rounds (min-max)\n")
    print(f"| {' | '.join(HEADING)} |")
    print("|---" * len(HEADING) + "|")
    for row in rows:
        bound, peer = show(row, "bound", row["bound_is"]), show(row, "peer", row["peer_is"])
        print(
            f"| {row['figure']} | {show(row, 'procession')} | {bound} | {ratio(row, 'bound')} | {peer} | {ratio(row, 'peer')} |"
        )
    options.out.write_text(json.dumps({"machine": machine, "rounds": options.rounds, "figures": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

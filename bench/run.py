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
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from procession.actor import Actor, endpoint, this_host
from procession.errors import SupervisionError
from procession.launch import LaunchOptions, Port, ProcExitResult, ProcLauncher, supervise

PROCS = 16
CALLS = 500


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


def call_procession() -> tuple[float, float]:
    mesh = this_host().spawn_procs(per_host={"workers": PROCS})
    echoes = mesh.spawn("echo", Echo)
    one = echoes.slice(workers=0)
    single = p50(lambda: one.echo.call_one(1).get(), CALLS)
    everyone = p50(lambda: echoes.echo.call(1).get(), CALLS // 5)
    mesh.stop().get(timeout=60)
    return single, everyone


def call_pipes() -> tuple[float, float]:
    made = pipes(PROCS)
    single = p50(lambda: ask_all(made[:1]), CALLS)
    everyone = p50(lambda: ask_all(made), CALLS // 5)
    close(made)
    return single, everyone


# --- death: from SIGKILL until the waiting call fails --------------------------------------------------------------


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
    process.join()
    connection.close()
    return took


def importing(module: str) -> float:
    return seconds(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))


def measure(rounds: int) -> list[dict]:
    samples: dict[tuple[str, str], list[float]] = {}

    def add(figure: str, who: str, value: float) -> None:
        samples.setdefault((figure, who), []).append(value)

    spawn = f"spawn {PROCS} Python procs until each answered a call"
    one, every = "call, tiny payload, between procs, p50", f"call to {PROCS} procs and all answers, p50"
    death, launcher = "SIGKILL until the waiting call fails", "8 procs through a Python launcher"
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        add(spawn, "bound", spawn_bound())
        add(spawn, "procession", spawn_procession())
        add(spawn, "peer", spawn_multiprocessing())
        for who, (single, everyone) in (("procession", call_procession()), ("peer", call_pipes())):
            add(one, who, single)
            add(every, who, everyone)
        add(death, "procession", death_procession())
        add(death, "peer", death_pipe())
        add(launcher, "procession", spawn_procession(Plain, 8))
        add(launcher, "bound", spawn_procession(None, 8))
        add("import procession.actor", "procession", importing("procession.actor"))
        add("import procession.actor", "bound", importing("sys"))

    notes = {
        spawn: ("as many times python -c pass", "multiprocessing, spawn"),
        one: ("", "multiprocessing.Pipe ping"),
        every: ("", "a loop over as many Pipes"),
        death: ("", "EOF of a Pipe"),
        launcher: ("the native launcher", ""),
        "import procession.actor": ("bare interpreter", ""),
    }
    rows = []
    for figure, (bound_is, peer_is) in notes.items():
        row: dict = {"figure": figure, "bound_is": bound_is, "peer_is": peer_is}
        for who in ("procession", "bound", "peer"):
            values = samples.get((figure, who))
            row[who] = values and {"median": statistics.median(values), "min": min(values), "max": max(values)}
        rows.append(row)
    return rows


def show(value: dict | None, name: str = "") -> str:
    if not value:
        return "-"
    unit, scale = ("s", 1) if value["median"] >= 1 else ("ms", 1e3) if value["median"] >= 1e-3 else ("µs", 1e6)
    text = f"{value['median'] * scale:.3g} {unit} ({value['min'] * scale:.3g}-{value['max'] * scale:.3g})"
    return f"{text} {name}".rstrip()


def ratio(row: dict, other: str) -> str:
    return f"{row['procession']['median'] / row[other]['median']:.2f}x" if row[other] else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench-results.json"))
    options = parser.parse_args()
    rows = measure(options.rounds)
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"\n{machine}; median of {options.rounds} rounds (min-max)\n")
    print("| figure | Procession | bound | of the bound | peer | of the peer |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        bound, peer = show(row["bound"], row["bound_is"]), show(row["peer"], row["peer_is"])
        print(
            f"| {row['figure']} | {show(row['procession'])} | {bound} | {ratio(row, 'bound')} | {peer} | {ratio(row, 'peer')} |"
        )
    options.out.write_text(json.dumps({"machine": machine, "rounds": options.rounds, "figures": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A short run that fails when something costs three times what it did when that was last accepted, beside the same peer.

`python -m bench.smoke` compares with bench/accepted.json, `--accept` writes it. No absolute figure is judged, and processor time is
compared rather than the time of the clock wherever that says the same: neighbours on the machine slow both sides down, by
different factors, and take nothing away from either's work.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import procession.actor
from bench import ends, payloads, pipes, spawn
from bench.calls import procs
from bench.figures import OURS, Figure, Group, Probe, Theme
from bench.processes import tree_cpu_seconds
from bench.rounds import Measured, measure
from bench.running import keep_bytecode, program

ACCEPTED = Path(__file__).with_name("accepted.json")
SLACK = 3.0
ROUNDS, PROCS, CALLS, MIB = 3, 8, 1000, 32

LAUNCH = f"processor time of each proc launched, of {PROCS}"
CALL = f"processor time of {CALLS} calls from the client to a proc"
CALL_ALL = f"processor time of {CALLS // PROCS} calls to {PROCS} procs and all answers"
BUFFER = f"processor time of a {MIB} MiB buffer to a proc"
MEMORY = f"memory of each of {PROCS} procs"
IMPORT = "processor time of import procession.actor"
FAILS = ends.FAILS

PIPES = "Pipes"
BARE = "bare interpreter"


def cpu(work: Callable[[], object]) -> float:
    began = tree_cpu_seconds()
    work()
    return tree_cpu_seconds() - began


def calls() -> list[float]:
    with procs(PROCS) as echoes:
        one = echoes.slice(workers=0)

        def singly() -> None:
            for _ in range(CALLS):
                one.echo.call_one(1).get(timeout=60)

        def everyone() -> None:
            for _ in range(CALLS // PROCS):
                echoes.echo.call(1).get(timeout=60)

        everyone()
        return [cpu(singly), cpu(everyone)]


def pings() -> list[float]:
    made = pipes.start(PROCS)
    try:

        def singly() -> None:
            for _ in range(CALLS):
                pipes.ask_all(made[:1])

        def everyone() -> None:
            for _ in range(CALLS // PROCS):
                pipes.ask_all(made)

        everyone()
        return [cpu(singly), cpu(everyone)]
    finally:
        pipes.stop(made)


def buffer() -> list[float]:
    data: Any = payloads.buffer(MIB << 20)
    with procs(1) as echo:

        def send() -> None:
            assert echo.take.call_one(data).get(timeout=60) == MIB << 20

        send()
        return [cpu(send)]


def buffer_pipe() -> list[float]:
    data = bytearray(MIB << 20)
    made = pipes.start(1, target=pipes.take)
    try:
        ((_, connection),) = made

        def send() -> None:
            connection.send_bytes(data)
            connection.recv()

        send()
        return [cpu(send)]
    finally:
        made[0][1].send_bytes(b"")
        pipes.stop(made)


def importing(module: str) -> list[float]:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    began = used()
    for _ in range(3):
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return [used() - began]


PAIRS: list[tuple[list[str], Callable[[], list[float]], str, Callable[[], list[float]]]] = [
    ([LAUNCH], lambda: spawn.ours(PROCS)[1:2], pipes.SPAWN, lambda: spawn.peer(PROCS, pipes.SPAWN)[1:2]),
    ([CALL, CALL_ALL], calls, PIPES, pings),
    ([BUFFER], buffer, PIPES, buffer_pipe),
    (
        [MEMORY],
        lambda: program("standing", "ours", PROCS, 0)[:1],
        pipes.SPAWN,
        lambda: program("standing", "spawn", PROCS, 0)[:1],
    ),
    ([FAILS], lambda: ends.fails()[:1], ends.RAW, lambda: ends.fails_raw()[:1]),
    ([IMPORT], lambda: importing("procession.actor"), BARE, lambda: importing("sys")),
]


def themes(wanted: set[str] | None = None) -> list[Theme]:
    """One for each pair, of which some figure is wanted."""
    made = []
    for names, ours, peer, theirs in PAIRS:
        if wanted is None or wanted.intersection(names):
            figures = [Figure(name, peers=[peer]) for name in names]
            made.append(Theme(names[0], figures, [Group([Probe(OURS, names, ours), Probe(peer, names, theirs)])]))
    return made


def ratios(chosen: list[Theme], measured: Measured) -> dict[str, float]:
    """Of each figure: what it is of that of its peer."""
    if measured.failed or measured.skipped:
        raise SystemExit("\n".join(f"{what}: {why}" for what, why in (measured.failed | measured.skipped).items()))
    found = {}
    for theme in chosen:
        for figure in theme.figures:
            values = measured.of(figure.name)
            # The best round of each side is the one that others disturbed least.
            found[figure.name] = min(values[OURS]) / min(values[figure.peers[0]])
    return found


def too_much(found: dict[str, float], accepted: dict[str, float]) -> dict[str, float]:
    return {name: ratio for name, ratio in found.items() if ratio > SLACK * accepted.get(name, 0.0)}


def take(wanted: set[str] | None = None) -> dict[str, float]:
    chosen = themes(wanted)
    return ratios(chosen, measure(chosen, ROUNDS))


def judge(found: dict[str, float], accepted: dict[str, float], again: Callable[[set[str]], dict[str, float]]) -> int:
    """Prints every ratio; what is too much is measured once more, and fails when it still is."""
    over = too_much(found, accepted)
    if over:
        second = again(set(over))
        found = {name: min(ratio, second.get(name, ratio)) for name, ratio in found.items()}
        over = too_much(found, accepted)
    for name, ratio in found.items():
        word = "too much" if name in over else "ok"
        print(f"{name}: {ratio:.2f}x, {accepted.get(name, 0.0):.2f}x is accepted, {SLACK:g} times that at most: {word}")
    print(f"bench: {len(found) - len(over)} of {len(found)} ratios are within {SLACK:g} times what was accepted")
    if over:
        print("find what made it slower; if it has to be, `make bench-smoke ACCEPT=1` writes bench/accepted.json anew")
    return bool(over)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.smoke", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="write what is measured into bench/accepted.json")
    options = parser.parse_args()
    keep_bytecode()
    procession.actor.unhandled_fault_hook = lambda failure: None  # procs are killed here, and that is measured
    with tempfile.TemporaryDirectory(prefix="procession-bench-") as records:
        os.environ["PROCESSION_STATE_DIR"] = records
        try:
            found = take()
            if options.accept:
                rounded = {name: round(ratio, 3) for name, ratio in found.items()}
                ACCEPTED.write_text(json.dumps(rounded, indent=1) + "\n")
                print(f"wrote {ACCEPTED}: {rounded}")
                return 0
            return judge(found, json.loads(ACCEPTED.read_text()), take)
        finally:
            procession.actor.shutdown_context()


if __name__ == "__main__":
    sys.exit(main())

"""Prints what Procession and other actor libraries cost for the same programs, interleaved in one run.

Each library gets an environment in the cache folder, with the versions of its requirements file; what cannot be installed here is
named with the reason. `make bench-peers` runs this; it is no part of any check.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench import report
from bench.figures import OURS, Figure, Goal, Skipped
from bench.processes import descendants
from bench.rounds import Measured
from bench.running import ProgramFailed, keep_bytecode, run

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("PROCESSION_CACHE") or Path.home() / ".cache/procession")
SECONDS = 300.0
PR_SET_CHILD_SUBREAPER = 36

MONARCH, RAY, XOSCAR = "torchmonarch", "Ray", "xoscar"


@dataclass(frozen=True)
class Library:
    name: str
    requirements: str
    imports: str
    program: Sequence[str]


LIBRARIES = [
    Library(MONARCH, "requirements-monarch.txt", "monarch.actor", ["with_actors.py", "monarch"]),
    Library(RAY, "requirements-ray.txt", "ray", ["with_ray.py"]),
    Library(XOSCAR, "requirements-xoscar.txt", "xoscar", ["with_xoscar.py"]),
]
ALL = [library.name for library in LIBRARIES]

# By the names that the programs print.
FIGURES = {
    "spawn 16": Figure("16 procs until each answered a call", "s", peers=ALL),
    "spawn 64": Figure("64 procs until each answered a call", "s", peers=ALL, goals=[Goal(1 / 20, MONARCH)]),
    "memory": Figure("memory of each of 64 procs, PSS", "B", peers=ALL),
    "call": Figure("call between actors of two procs, p50", "s", peers=ALL, goals=[Goal(1 / 8, MONARCH)]),
    "pipeline": Figure("calls a second, pipelined, to one actor", "1/s", peers=ALL, more_is_better=True),
    "cast": Figure("one-way messages a second, to one actor", "1/s", peers=[MONARCH, XOSCAR], more_is_better=True),
    "gather 16": Figure("call to 16 procs and all answers, p50", "s", peers=ALL),
    "gather 64": Figure("call to 64 procs and all answers, p50", "s", peers=ALL),
    "buffer": Figure("256 MiB array to a proc", "B/s", peers=ALL, more_is_better=True),
    "kill": Figure("SIGKILL until the waiting call fails", "s", peers=ALL),
    "stop": Figure("stop of 16 procs", "s", peers=ALL),
}


def environment(library: Library) -> str:
    """The interpreter that has the library; raises Skipped with why there is none."""
    venv, wanted = CACHE / "peers" / library.imports.partition(".")[0], HERE / library.requirements
    python, stamp = venv / "bin/python", venv / ".requirements"
    versions = wanted.read_text()
    if not stamp.exists() or stamp.read_text() != versions:
        print(f"installing {library.name} into {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True, stdout=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        check([*pip, "-r", str(wanted)], "cannot be installed")
        check([str(python), "-c", f"import {library.imports}"], "is installed, and cannot be imported")
        stamp.write_text(versions)
    return str(python)


def check(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Skipped(f"{what}: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")


def end_what_is_left() -> None:
    """All that the programs have started is below this process, which is their subreaper."""
    while left := descendants(os.getpid()):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def run_once(name: str, command: list[str], measured: Measured, env: dict[str, str]) -> None:
    try:
        found = run(command, timeout=SECONDS, cwd=HERE, env=env)
    except ProgramFailed as error:
        measured.failed[name] = str(error)
        return
    finally:
        end_what_is_left()
    for figure, value in found["values"].items():
        if figure in FIGURES:
            measured.values.setdefault((FIGURES[figure].name, name), []).append(value)
    for figure, why in found["failed"].items():
        measured.failed[f"{name}: {figure}"] = why


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help=f"libraries, by commas: {', '.join(ALL)}")
    parser.add_argument("--out", type=Path, default=Path("bench-peers-results.json"))
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else ALL
    if unknown := set(wanted) - set(ALL):
        parser.error(f"there is no library {', '.join(sorted(unknown))}: they are {', '.join(ALL)}")

    keep_bytecode()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    measured = Measured()
    commands = {OURS: [sys.executable, "with_actors.py", "procession"]}
    for library in LIBRARIES:
        if library.name in wanted:
            try:
                commands[library.name] = [environment(library), *library.program]
            except Skipped as reason:
                measured.skipped[library.name] = str(reason)
    began, before = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="procession-bench-") as scratch:
        # Sockets, sessions and records of all of them, so that nothing of it is left.
        env = os.environ | {"TMPDIR": scratch, "PROCESSION_STATE_DIR": scratch, "RAY_USAGE_STATS_ENABLED": "0"}
        env["RAY_TMPDIR"] = scratch
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            order = list(commands.items())
            first = number % len(order)
            for name, command in [*order[first:], *order[:first]]:
                if name not in measured.failed:
                    run_once(name, command, measured, env)
    load = f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after {time.monotonic() - began:.0f} s"
    figures = list(FIGURES.values())
    print(*report.table(figures, measured, options.rounds, load), sep="\n")
    options.out.write_text(json.dumps(report.data(figures, measured, options.rounds, load), indent=1) + "\n")
    return bool(measured.of(FIGURES["call"].name).get(OURS) is None)


if __name__ == "__main__":
    sys.exit(main())

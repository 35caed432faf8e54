"""Measures what each proc costs beside 1 to 1,000 others, and writes docs/flat-cost.json, of which bench/plot.py makes a plot."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench import report
from bench.running import ROOT, ProgramFailed, keep_bytecode, run

NUMBERS = (1, 4, 16, 64, 256, 1000)
SECONDS = 400.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.curve", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=NUMBERS[-1], help="no more procs than this")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/flat-cost.json")
    options = parser.parse_args()
    environment = keep_bytecode()
    points: dict[int, list[dict[str, float]]] = {number: [] for number in NUMBERS if number <= options.most}
    with tempfile.TemporaryDirectory(prefix="procession-bench-") as records:
        for _ in range(options.rounds):
            for number, rounds in points.items():
                command = [sys.executable, "-m", "bench.programs.flat", str(number)]
                try:
                    rounds.append(run(command, SECONDS, env=environment | {"PROCESSION_STATE_DIR": records}))
                except ProgramFailed as error:
                    print(f"{number} procs: {error}", file=sys.stderr)
                else:
                    print(number, rounds[-1], file=sys.stderr)
    measured = {number: rounds for number, rounds in points.items() if rounds}
    options.out.write_text(json.dumps({"machine": report.machine(), "points": measured}, indent=1) + "\n")
    return len(measured) < len(points)


if __name__ == "__main__":
    sys.exit(main())

"""Prints one table, and writes one JSON file, of what Procession costs beside lower bounds and peers.

Every figure is measured in rounds, interleaved with what it is compared with; the table gives the median of the rounds, the
range, the ratios, and whether the goal is met. Peers are those of the standard library; `make bench-peers` has others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import procession.actor
from bench import report
from bench.rounds import measure
from bench.running import keep_bytecode
from bench.themes import THEMES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help=f"themes, by commas: {', '.join(theme.name for theme in THEMES)}")
    parser.add_argument("--out", type=Path, default=Path("bench-results.json"))
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    if unknown := set(wanted) - {theme.name for theme in THEMES}:
        parser.error(f"there is no theme {', '.join(sorted(unknown))}: {parser.format_usage()}")
    themes = [theme for theme in THEMES if not wanted or theme.name in wanted]

    keep_bytecode()
    procession.actor.unhandled_fault_hook = lambda failure: None  # procs are killed here, and that is measured
    with tempfile.TemporaryDirectory(prefix="procession-bench-") as records:
        # Hundreds of ends, which would take the place of those that `procession why` keeps for the user.
        os.environ["PROCESSION_STATE_DIR"] = records
        began, before = time.monotonic(), os.getloadavg()[0]
        measured = measure(themes, options.rounds)
        load = f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after {time.monotonic() - began:.0f} s"
        procession.actor.shutdown_context()
    figures = [figure for theme in themes for figure in theme.figures]
    print(*report.table(figures, measured, options.rounds, load), sep="\n")
    options.out.write_text(json.dumps(report.data(figures, measured, options.rounds, load), indent=1) + "\n")
    return bool(measured.failed)


if __name__ == "__main__":
    sys.exit(main())

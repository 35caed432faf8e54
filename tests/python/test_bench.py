"""The benchmark runs and fills its table; whether the figures are good is not asked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench/run.py"


@pytest.mark.timeout(100)
def test_the_benchmark_measures_every_figure_beside_what_it_is_compared_with(tmp_path):
    results = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, BENCH, "--rounds", "1", "--out", results], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(results.read_text())["figures"]
    rows = [line.strip("|").split("|") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == [one["figure"] for one in measured]
    for one in measured:
        compared = [who for who in ("bound", "peer") if one[f"{who}_is"]]
        assert compared, one
        for who in ("procession", *compared):
            assert one[who]["median"] > 0, one

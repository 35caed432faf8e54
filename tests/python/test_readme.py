"""The README's programs do what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench import report
from bench.themes import FIGURES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FIRST, SUPERVISION, LAUNCHER = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_program_greets_from_every_rank_and_says_how_each_proc_ended(script):
    lines = script(FIRST).stdout.splitlines()
    assert lines[:4] == [f"{rank} Hello, world, from rank {rank}" for rank in range(4)]
    assert len(lines) == 8
    assert all("stopped by us (stop: the work is done): exit code 0" in line for line in lines[4:])


def test_the_manager_is_told_which_rank_failed_and_how(script):
    assert script(SUPERVISION).stdout == "['rank 1: exited 3']\n"


def test_the_launcher_launches_and_knows_the_pids(script):
    pids = re.findall(r"\d+", script(LAUNCHER).stdout)
    assert len(set(pids)) == 4


def test_the_launcher_has_about_thirty_lines():
    body = LAUNCHER[LAUNCHER.index("class ") : LAUNCHER.index("if __name__")]
    assert len([line for line in body.splitlines() if line.strip()]) <= 30


def test_the_command_prefixes_the_output_by_rank():
    (command,) = re.findall(r"procession (run -n 4 -- python -c '.*?')\n", README)
    done = subprocess.run(
        f"{sys.executable} -m procession {command.replace(' python ', f' {sys.executable} ')}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"[{rank}] rank {rank}" for rank in range(4)]


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", README))
def test_what_the_readme_points_at_exists(path):
    assert (ROOT / path).exists()


def test_the_table_of_figures_has_rows_that_the_benchmark_prints():
    heading, _, *rows = [line.strip("|").split("|") for line in README.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in heading] == report.HEADING[: len(heading)]
    figures = {figure.name: figure for figure in FIGURES}
    for name, _, bound, _, peer, *_ in [[cell.strip() for cell in row] for row in rows]:
        assert bound.endswith(tuple(figures[name].bounds) or report.NONE) or bound == report.NONE
        assert peer.endswith(tuple(figures[name].peers) or report.NONE)

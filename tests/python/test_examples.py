"""The examples are run as they are, and say what they should."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

SAID = {
    "crawler": r"40 pages, 41 broken links\n",
    "parameter_server": r"(worker \d: error 0\.01\d?\n){3}y = (1\.9[5-9]|2\.0[0-5]) x -(0\.9[5-9]|1\.0[0-5])\n",
    "ping_pong": r"the ball was hit 2000 times\n\d+ us a round\n",
    "recovery": r"sum of squares: 8555\nworker 1: signaled, signal 9\n",
    "ring": r"the token ended at member 0\n" + "".join(f"member {rank} had it 25 times\n" for rank in range(4)),
    "streaming": r"(rank \d\n){4}" + "".join(rf"rank {rank} sent \[0, 1, 2\]\n" for rank in range(4)),
    "two_meshes": r"pair 0: \[1, 1, 1, 1, 1\]\npair 1: \[2, 3, 4, 5, 6\]\npair 2: \[3, 5, 7, 9, 11\]\n60 in all\n",
}


@pytest.mark.parametrize("name", SAID)
def test_an_example_says_what_it_should(name):
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(SAID[name], done.stdout), done.stdout


def test_every_example_is_run_by_some_test():
    others = {"docker_launcher", "first", "train_digits"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SAID.keys() | others


RUN_NOTEBOOK = """
import sys
import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=50, km=AsyncKernelManager(transport="ipc")).execute()
nbformat.write(notebook, sys.argv[2])
"""


def test_the_notebook_runs_from_its_first_cell_to_its_last(script, tmp_path):
    script(RUN_NOTEBOOK, str(EXAMPLES / "notebook.ipynb"), str(tmp_path / "run.ipynb"), cwd=tmp_path)
    notebook = json.loads((tmp_path / "run.ipynb").read_text())
    said = []
    for cell in notebook["cells"]:
        said += ["".join(output.get("text") or output["data"]["text/plain"]) for output in cell.get("outputs", [])]
    up, first, second, pids, error, killed, third, ended = said
    assert (up, pids, error) == ("True", "3", "TypeError\n")
    assert [re.findall(r", (\d+)\)", values) for values in (first, second, third)] == [
        ["15"] * 2,
        ["16"] * 2,
        ["1"] * 2,
    ]
    assert killed == "killed: signal 9 (SIGKILL), not requested by us\n"
    assert ended == "[0, 0]"

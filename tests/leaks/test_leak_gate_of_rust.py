"""The gate that every test of Rust runs behind."""

import re
import subprocess
from pathlib import Path

import pytest

GATE = Path(__file__).parents[2] / "scripts/leak_gate.py"


def behind_the_gate(script: str) -> subprocess.CompletedProcess:
    return subprocess.run([GATE, "/bin/sh", "-c", script], capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143)])
def test_how_a_test_ended_is_passed_on(end, code):
    done = behind_the_gate(f"echo said; {end}")
    assert done.returncode == code
    assert done.stdout.startswith("said\n")


@pytest.mark.parametrize("how", ["sleep 60 &", "setsid sh -c 'setsid sleep 60 & exit' &"])
def test_a_process_that_is_left_fails_the_test_by_name_and_is_ended(how):
    done = behind_the_gate(f"{how} true")
    assert done.returncode == 101
    (pid,) = re.findall(r"left behind: process (\d+) \(sleep 60\)", done.stdout)
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_goes_by_itself_is_no_leak():
    assert behind_the_gate("setsid sleep 0.3 & exit 0").returncode == 0


def test_a_test_has_no_signals_ignored_that_it_would_not_have_without_the_gate():
    without = subprocess.run(["/bin/sh", "-c", "grep SigIgn /proc/self/status"], capture_output=True, text=True).stdout
    assert behind_the_gate("grep SigIgn /proc/self/status").stdout == without

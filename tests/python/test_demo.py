"""The demo, run as a user runs it: what it reports about the trainer that is killed, and that it trains on."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "examples/train_digits.py", "--launcher"]
GOAL = 0.93


def training(report: str) -> None:
    """Asserts what every report has to tell, on a terminal and elsewhere."""
    killed_at = int(re.search(r"^step (\d+): SIGKILL for trainer 2$", report, re.MULTILINE)[1])
    begun = [int(step) for step in re.findall(r"^training from step (\d+)$", report, re.MULTILINE)]
    assert begun[0] == 0 < begun[1] < killed_at, "it goes on from its last checkpoint"
    assert len(begun) == 2

    # The death is told when it is seen: who, how, that it was none of us, and the last words.
    told = re.search(r"^trainer-2, incarnation 1: (.*)\n(.*)\n((?:  \| .*\n)+)", report, re.MULTILINE)
    assert "not requested by us" in told[1]
    assert told[2].startswith("  signal 9, not requested by us")
    assert told[3].splitlines()[-1] == f"  | trainer 2: step {begun[1]}"

    heading, *rows = report[report.index("rank  name") :].splitlines()[:6]
    assert heading.split()[:4] == ["rank", "name", "launcher", "inc"]
    assert [(row.split()[1], row.split()[3]) for row in rows] == [
        ("trainer-0", "1"),
        ("trainer-1", "1"),
        ("trainer-2", "1"),
        ("trainer-2", "2"),
        ("trainer-3", "1"),
    ]
    assert [("signal 9" in row, "not requested by us" in row) for row in rows] == [(n == 2, n == 2) for n in range(5)]
    assert ["stopped by us" in row for row in rows] == [n != 2 for n in range(5)]

    (accuracy,) = re.findall(r"^test accuracy ([\d.]+)$", report, re.MULTILINE)
    assert float(accuracy) >= GOAL


@pytest.mark.parametrize("launcher", ["python", "native"])
def test_the_demo_reports_the_killed_trainer_and_trains_on_from_the_checkpoint(launcher):
    done = subprocess.run([*COMMAND, launcher], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    training(done.stdout)
    assert re.findall(r"^step (\d+) of 400$", done.stdout, re.MULTILINE)[-1] == "400"
    assert "\x1b" not in done.stdout


def test_on_a_terminal_the_demo_shows_its_progress():
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    environ = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(
        [*COMMAND, "native"], cwd=ROOT, env=environ, stdin=follower, stdout=follower, stderr=subprocess.PIPE
    ) as demo:
        os.close(follower)
        shown = b"".join(iter(lambda: read(leader), b"")).decode()
        assert demo.wait(50) == 0, demo.stderr.read()
    os.close(leader)
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown).replace("\r\n", "\n")
    assert re.search(r"training .*━+.* 100%", plain)
    assert len(set(re.findall(r"training .*?(\d+)%", plain))) > 2, "the bar moves"
    training("\n".join(line.rpartition("\r")[2].rstrip() for line in plain.split("\n")) + "\n")


def read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # that is how a terminal says that nobody writes any more
        return b""

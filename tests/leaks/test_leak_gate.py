import os
import signal
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.fixture
def gate(pytester: pytest.Pytester):
    """Runs `body` as a test behind a gate of its own, in a process of its own; gives its outcomes and what it printed."""

    def run(body: str) -> tuple[dict[str, int], str]:
        pytester.makeconftest(CONFTEST.read_text().replace("PATIENCE_SECONDS = 2.0", "PATIENCE_SECONDS = 0.3"))
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        pytester.makepyfile(
            f"import os, subprocess, sys, threading, time, signal, socket, tempfile\nkept = []\n\ndef test_it():\n{lines}"
        )
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
        outcomes = {k: v for k, v in result.parseoutcomes().items() if k in {"passed", "failed", "errors"}}
        return outcomes, result.stdout.str()

    return run


def end(output: str) -> None:
    """Ends the process that the inner test has named and left."""
    for line in output.splitlines():
        if line.startswith("left pid "):
            os.kill(int(line.split()[2]), signal.SIGKILL)


CLEAN = """
done = subprocess.run(["true"], check=True)
with tempfile.TemporaryFile(), socket.socket():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
"""


def test_a_test_that_cleans_up_passes(gate):
    assert gate(CLEAN)[0] == {"passed": 1}


def test_what_goes_by_itself_within_the_patience_is_no_leak(gate):
    assert gate("threading.Thread(target=time.sleep, args=[0.1]).start()")[0] == {"passed": 1}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("pid = os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '60'); print('left pid', pid)", "(sleep 60)"),
        (
            "out = subprocess.run(['sh', '-c', 'setsid sleep 60 >/dev/null 2>&1 & echo left pid $!'], capture_output=True)\n"
            "print(out.stdout.decode())",
            "(sleep 60)",
        ),
        ("pid = os.fork()\nif pid == 0: os._exit(0)", "zombie "),
        ("kept.append(os.open('/dev/null', os.O_RDONLY))", "1 more file descriptors of /dev/null"),
        ("kept.extend(socket.socketpair())", "2 more file descriptors of socket"),
        ("threading.Thread(target=time.sleep, args=[2], name='sleeper').start()", "1 more threads named sleeper"),
    ],
    ids=["child", "orphan", "zombie", "file", "sockets", "thread"],
)
def test_what_is_left_behind_fails_the_test_by_name(gate, body, named):
    outcomes, output = gate(body)
    end(output)
    assert outcomes == {"passed": 1, "errors": 1}
    assert "left behind: " in output
    assert named in output

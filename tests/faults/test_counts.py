"""What is promised for many times: a twentieth of them as a rule, all of them in `make soak`."""

import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from capabilities import need
from procession.actor import this_host

TIMES = int(os.environ.get("PROCESSION_SOAK_TIMES", "1"))
"""1 for a twentieth, 20 for all."""
LAST_WORDS, HOGS, ENDS, DEATHS = 500 * TIMES, 5 * TIMES, 50 * TIMES, 100
TOGETHER = 25

HOG = "pieces = []\nwhile True: pieces.append(b'x' * (1 << 20))"
PROGRAM = """
import sys
from procession.actor import Actor, endpoint, this_host

class Echo(Actor):
    @endpoint
    def echo(self, value): return value

if __name__ == "__main__":
    procs = this_host().spawn_procs({"x": 2})
    assert list(procs.spawn("echo", Echo).echo.call(7).get(30).values()) == [7, 7]
    sys.exit(5)
"""


def run(command, count=1, **kwargs):
    return this_host().spawn_procs({"x": count}, bootstrap_command=command, readiness="none", **kwargs)


@pytest.mark.fault("F2")
@pytest.mark.timeout(60 + LAST_WORDS // 10)
def test_the_last_words_are_kept_every_time_however_a_program_ends():
    ends = {"exit 3": (3, None), "kill -9 $$": (None, 9), "kill -SEGV $$": (None, 11), "exit 0": (0, None)}
    for number in range(LAST_WORDS // TOGETHER):
        end, (code, by) = list(ends.items())[number % len(ends)]
        script = f"echo first >&2; echo said; echo last >&2; {end}"
        for one in run(["/bin/sh", "-c", script], TOGETHER).wait(30).get().values():
            assert (one.exit_code, one.signal) == (code, by)
            assert (one.stderr_tail, one.stdout_tail) == (["first", "last"], ["said"]), one


@pytest.mark.fault("F36")
@pytest.mark.timeout(60 + HOGS)
def test_the_want_of_memory_is_told_every_time():
    need("memory-limit", "oom-facts")
    for _ in range(HOGS):
        (one,) = run([sys.executable, "-S", "-c", HOG], resources={"memory": "32M"}).wait(30).get().values()
        assert (one.signal, one.oom) == (9, True), one


@pytest.mark.fault("F30")
@pytest.mark.timeout(60 + ENDS)
def test_an_interpreter_ends_with_its_own_code_every_time_and_in_time(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)

    def end(_):
        return subprocess.run([sys.executable, tmp_path / "program.py"], timeout=50, capture_output=True, text=True)

    with ThreadPoolExecutor(2) as two:
        for done in two.map(end, range(ENDS)):
            assert (done.returncode, done.stderr) == (5, ""), done


def test_deaths_are_seen_fast_beside_many_that_live():
    with run(["/bin/sleep", "1000"], 64) as living:
        living.initialized.get(30)
        seconds = []
        for _ in range(DEATHS):
            dying = run(["/bin/sleep", "1000"])
            dying.initialized.get(30)
            (pid,) = (one.pid for one in dying.statuses().values())
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            dying.wait(30).get()
            seconds.append(time.monotonic() - killed)
        assert all(exit is None for exit in living.exits().values())
    seconds.sort()
    # Half within 10 ms, 99 of 100 within 100 ms; a machine that is busy with other things may take ten times as long.
    assert statistics.median(seconds) < 0.1, seconds
    assert seconds[DEATHS * 99 // 100 - 1] < 1, seconds
    print(
        f"median {statistics.median(seconds) * 1000:.2f} ms, 99 of 100 {seconds[DEATHS * 99 // 100 - 1] * 1000:.2f} ms"
    )

"""The keeper and its guard end with their client, however it ends; and when all three are killed, the next client sweeps."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from launching import until

# Two procs that never call back, with a daemon each; prints who is there, and ends as it is told.
CLIENT = """
import json, os, signal, sys
from pathlib import Path
from procession.actor import this_host

def stat(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

program = ["/bin/sh", "-c", "setsid sh -c 'sleep 1000 &'; exec sleep 1000"]
procs = this_host().spawn_procs({"x": 2}, bootstrap_command=program, readiness="none")
procs.initialized.get(30)
leaders = [status.pid for status in procs.statuses().values()]
keeper = int(stat(leaders[0])[1])
guard = int(stat(keeper)[1])
assert int(stat(guard)[1]) == os.getpid()
all = {"leaders": leaders, "keeper": [keeper], "guard": [guard]}
print(json.dumps({role: [(pid, stat(pid)[19]) for pid in pids] for role, pids in all.items()}), flush=True)
END
"""


def lives(pid: int, started: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return stat[19] == started and stat[0] != "Z"


def carriers(name: str) -> list[int]:
    """What lives and has `name` in its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if name.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it has just ended
    return found


def command(pid: int) -> str:
    """What it runs; nothing of one that has just ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
    return ""


def until_gone(who):
    until(lambda: not who(), "all are gone")


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("pass", 0),
        ("raise RuntimeError('the end')", 1),
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        *((f"os.kill(os.getpid(), {int(number)})", -number) for number in (
            signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)),
    ],
)  # fmt: skip
def test_keeper_and_guard_end_with_their_client_whose_exit_code_is_its_own(script, end, code, tmp_path):
    name = f"KEEPER_TEST={tmp_path}"
    done = script(CLIENT.replace("END", end), check=False, env={"KEEPER_TEST": str(tmp_path)})
    assert done.returncode == code, done.stderr
    said = json.loads(done.stdout)
    assert [len(said[role]) for role in ("leaders", "keeper", "guard")] == [2, 1, 1]
    until_gone(lambda: [one for ones in said.values() for one in ones if lives(*one)])
    until_gone(lambda: carriers(name))


# All three are stopped first, by a process beside them, so that none does anything about the end of the others: the client
# starts another keeper within a millisecond.
ALL_THREE = """
client = os.getpid()
if os.fork() == 0:
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (client, keeper, guard):
            os.kill(pid, number)
            while number == signal.SIGSTOP and stat(pid)[0] != "T":
                pass
    os._exit(0)
signal.pause()
"""

DOCTOR = """
import json
from procession._native import dead_hosts
print(json.dumps(dead_hosts()))
"""


@pytest.fixture
def run_dirs():
    # pytest's own folder has too long a name for sockets.
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.fault("F28")
def test_what_a_client_left_that_died_with_keeper_and_guard_is_shown_and_then_swept_by_the_next(script, run_dirs):
    name = f"KEEPER_TEST={run_dirs}"
    env = {"KEEPER_TEST": str(run_dirs), "XDG_RUNTIME_DIR": str(run_dirs)}
    done = script(CLIENT.replace("END", ALL_THREE), check=False, env=env)
    assert done.returncode == -signal.SIGKILL, done.stderr
    said = json.loads(done.stdout)
    until_gone(lambda: [one for role in ("keeper", "guard") for one in said[role] if lives(*one)])
    programs = ["sleep 1000"] * 4
    until(lambda: [command(pid) for pid in carriers(name)] == programs, "the shells that made the daemons are gone")
    left = carriers(name)
    assert {pid for pid, _ in said["leaders"]} < set(left)

    (dead,) = json.loads(script(DOCTOR, env=env).stdout)
    assert Path(dead["run_dir"]).parent == run_dirs
    assert sorted(one["pid"] for one in dead["processes"]) == sorted(left)
    assert {one["command"] for one in dead["processes"]} == {"sleep 1000"}
    doctor = [sys.executable, "-m", "procession", "doctor"]
    shown = subprocess.run(doctor, env={**os.environ, **env}, capture_output=True, text=True, check=True).stdout
    assert dead["run_dir"] in shown
    as_json = subprocess.run([*doctor, "--json"], env={**os.environ, **env}, capture_output=True, text=True, check=True)
    assert json.loads(as_json.stdout)["dead_hosts"] == [dead]
    assert sorted(re.findall(r"process (\d+)  (.*)", shown)) == sorted((str(pid), "sleep 1000") for pid in left)

    gc = [sys.executable, "-m", "procession", "gc", "--launcher", "native", "--json"]

    def collect(*more):
        done = subprocess.run([*gc, *more], env={**os.environ, **env}, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    [found] = collect("--dry-run")
    assert (found["launcher"], found["handle"], found["removed"]) == ("native", dead["run_dir"], False)
    assert sorted(int(pid) for pid in re.findall(r"process (\d+) sleep", found["what"])) == sorted(left)
    assert sorted(carriers(name)) == sorted(left)
    # A host that starts is the next one.
    assert collect() == [{**found, "removed": True}]
    until_gone(lambda: carriers(name))
    assert collect() == []
    assert list(run_dirs.iterdir()) == []

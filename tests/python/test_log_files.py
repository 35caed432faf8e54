"""Output in files: whole, rotated, read back, and no trouble where they cannot be written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launching import Supervising, only_exit, spawn, until
from procession.actor import this_host
from procession.errors import InvalidArgument, Unsupported
from procession.launch import Capabilities, ProcLauncher

NUMBERS = "".join(f"{n}\n" for n in range(1, 5001))


class Mute(ProcLauncher):
    capabilities = Capabilities(stdio=False)

    def launch(self, exit_port, proc_id, opts): ...
    def terminate(self, proc_id, timeout_secs): ...
    def kill(self, proc_id): ...


@pytest.mark.parametrize(("name", "launcher"), [("native", None), ("supervised", Supervising)])
def test_all_output_is_in_files_that_status_and_exit_name(tmp_path, name, launcher):
    logs = tmp_path / "new" / "logs"
    procs = spawn(launcher, r"seq 1 5000; printf 'a\377\0\r\n\033[1mb' >&2", name=name, log_dir=logs)
    status = procs.statuses().item()
    one = only_exit(procs)
    assert (one.stdout_path, one.stderr_path) == (
        str(logs / f"{name}-0.{one.incarnation}.out"),
        str(logs / f"{name}-0.{one.incarnation}.err"),
    )
    assert (status.stdout_path, status.stderr_path) == (one.stdout_path, one.stderr_path)
    assert Path(one.stdout_path).read_text() == NUMBERS
    assert Path(one.stderr_path).read_bytes() == b"a\xff\0\r\n\x1b[1mb"
    assert (one.log_dropped_bytes, one.stdout_tail[-1]) == (0, "5000")
    assert [path.stat().st_mode & 0o777 for path in (logs, Path(one.stdout_path))] == [0o700, 0o600]
    assert list(procs.logs(tail=4000))[:4000] == [f"[0] {n}" for n in range(1001, 5001)]
    assert len(list(procs.logs())) == 100 + 2


def test_files_are_rotated(tmp_path):
    one = only_exit(spawn(None, "seq 1 5000", name="rotated", log_dir=tmp_path, log_max_bytes=4096, log_keep=2))
    parts = [tmp_path / f"rotated-0.1.out{ending}" for ending in (".2", ".1", "")]
    text = "".join(part.read_text() for part in parts)
    assert NUMBERS.endswith(text)
    assert [part.stat().st_size for part in parts[:2]] == [4096, 4096]
    assert sorted(tmp_path.iterdir()) == sorted([*parts, tmp_path / "rotated-0.1.err"])
    assert one.log_dropped_bytes == 0


def test_following_begins_as_far_back_as_the_files_do(tmp_path):
    gate = tmp_path / "gate"
    command = f"seq 1 3000; while [ ! -e {gate} ]; do sleep 0.01; done; seq 3001 3010"
    with spawn(None, command, log_dir=tmp_path / "logs") as procs:
        until(lambda: list(procs.logs(tail=1)) == ["[0] 3000"])
        lines = procs.logs(tail=2500, follow=True)
        gate.touch()
        assert list(lines) == [f"[0] {n}" for n in range(501, 3011)]


def test_a_stream_is_folded_when_that_is_asked_for(tmp_path):
    gate = tmp_path / "gate"
    command = f"while [ ! -e {gate} ]; do sleep 0.01; done; echo same; echo $$"
    with spawn(None, command, per_host={"x": 3}) as procs:
        lines = procs.logs(follow=True, fold=True)
        gate.touch()
        shown = list(lines)
    ranks = {"[0-2]": 3, "[0-1]": 2, "[1-2]": 2, "[0,2]": 2}
    same = [line.split()[0] for line in shown if line.split()[1] == "same"]
    assert sum(ranks.get(who, 1) for who in same) == 3
    assert len(shown) == len(same) + 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"log_dir": ""}, "cannot be empty"),
        ({"log_dir": "a\0b"}, "NUL"),
        ({"log_dir": 3}, "has to be a path"),
        ({"log_dir": "FILE/logs"}, "cannot be made"),
        ({"log_dir": "LINK"}, "symbolic link"),
        ({"log_dir": "/proc/self"}, "symbolic link"),
        ({"log_max_bytes": 10_000}, "log_dir"),
        ({"log_dir": "DIR", "log_max_bytes": 0}, "at least 4096"),
        ({"log_dir": "DIR", "log_max_bytes": True}, "has to be an int"),
        ({"log_dir": "DIR", "log_keep": -1}, "at least 0"),
        ({"log_dir": "DIR", "log_keep": 1001}, "1000"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(tmp_path, given, words):
    (tmp_path / "FILE").write_text("")
    (tmp_path / "DIR").mkdir()
    (tmp_path / "LINK").symlink_to(tmp_path / "DIR")
    where = given.get("log_dir")
    if isinstance(where, str) and where.partition("/")[0] in ("FILE", "DIR", "LINK"):
        given = {**given, "log_dir": tmp_path / where}
    with pytest.raises((InvalidArgument, Unsupported), match=words):
        this_host().spawn_procs(bootstrap_command=["true"], readiness="none", **given)
    assert list((tmp_path / "DIR").iterdir()) == []


def test_a_launcher_that_hands_over_no_output_has_no_files(tmp_path):
    with pytest.raises(Unsupported, match="does not hand over"):
        spawn(Mute, "true", log_dir=tmp_path / "logs")


CLIENT = """
import sys
from procession.actor import this_host

writer = "import os, sys\\nn = 0\\nwhile True: n += os.write(1, b'%07d\\\\n' % n)"
procs = this_host().spawn_procs(
    bootstrap_command=[sys.executable, "-c", writer], readiness="none", name="w", log_dir=sys.argv[1])
procs.initialized.get(30)
print(procs.statuses().item().pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("size", [100_000, 1_000_003])
def test_nothing_that_left_the_pipe_is_lost_when_the_client_is_killed(tmp_path, size):
    client = subprocess.Popen([sys.executable, "-c", CLIENT, tmp_path], stdin=-1, stdout=-1, text=True)
    with client:
        pid = int(client.stdout.readline())
        # Held open, so that what is in the pipe is not gone with the last reader.
        pipe = os.open(f"/proc/{pid}/fd/1", os.O_RDONLY | os.O_NONBLOCK)
        file = tmp_path / "w-0.1.out"
        deadline = time.monotonic() + 30
        while not file.exists() or file.stat().st_size < size:
            assert time.monotonic() < deadline
        client.send_signal(signal.SIGKILL)
        client.wait()
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline + 10
    held = file.read_bytes()
    while part := os.read(pipe, 1 << 20):
        held += part
    os.close(pipe)
    # The last write was cut short by the end, if any was.
    whole, rest = divmod(len(held), 8)
    assert held == b"".join(b"%07d\n" % (8 * n) for n in range(whole)) + (b"%07d\n" % (8 * whole))[:rest]

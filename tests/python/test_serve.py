"""A host that is served: it is killed and started again, and its procs go on meanwhile."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from launching import gone, until

COMMAND = [sys.executable, "-m", "procession"]
COUNTS = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done"
ENDS = 'echo begun; while [ ! -e "$GATE" ]; do sleep 0.01; done; echo last words; exit 7'


def procession(*args, check=True):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=50, check=check)


class Host:
    """One that serves a directory, again and again."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp())  # the folders of tests are too deep for sockets
        self.directory = str(self.folder / "host")
        self.process = None

    def serve(self):
        """Gives the names of the procs that were taken over."""
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--state", self.directory], stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        assert f"serving {self.directory}" in line
        return set(line.rpartition(": ")[2].strip().split(", ")) - {"none"}

    def end(self, number):
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code

    def start(self, name, script, **env):
        words = [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
        done = procession("start", "--host", self.directory, "--name", name, *words, "--", "/bin/sh", "-c", script)
        return done.stdout.split()

    def ps(self):
        lines = procession("ps", "--host", self.directory, "--json").stdout.splitlines()
        return {row["name"]: row for row in map(json.loads, lines)}

    def lines(self, name):
        return procession("logs", "--host", self.directory, name).stdout.splitlines()


@pytest.fixture
def host():
    host = Host()
    yield host
    if host.process.poll() is not None:
        host.serve()
    living = [name for name, row in host.ps().items() if row["status"] == "running"]
    if living:
        procession("stop", "--host", host.directory, "--kill", *living)
    host.end(signal.SIGTERM)
    subprocess.run(["rm", "-r", host.folder], check=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_host_takes_over_what_lives_with_all_output_and_knows_how_the_rest_ended(host, number, tmp_path):
    assert host.serve() == set()
    (counts,), (ends,) = host.start("counts", COUNTS), host.start("ends", ENDS, GATE=tmp_path / "gate")
    until(lambda: host.lines(counts) and host.lines(ends) == ["begun"])
    before = host.ps()
    assert host.end(number) == (-signal.SIGKILL if number == signal.SIGKILL else 0)

    written = len(host.lines(counts))
    (tmp_path / "gate").touch()
    until(lambda: gone(before[ends]["pid"]))
    until(lambda: len(host.lines(counts)) > written + 10)  # while no host lives

    assert counts in host.serve()
    after = host.ps()
    same = ("pid", "proc_id", "incarnation", "started_at")
    assert [after[counts][key] for key in same] == [before[counts][key] for key in same]
    assert (after[ends]["kind"], after[ends]["exit_code"]) == ("exited", 7)
    assert after[ends]["ended_at"] < time.time()
    assert host.lines(ends) == ["begun", "last words"]

    written = len(host.lines(counts))
    until(lambda: len(host.lines(counts)) > written + 10)
    assert procession("stop", "--host", host.directory, counts).stdout.startswith(f"{counts}: stopped by us")
    lines = host.lines(counts)
    assert lines == [str(n) for n in range(1, len(lines) + 1)], "nothing is missing, doubled or out of order"
    assert gone(after[counts]["pid"])
    host.end(signal.SIGKILL)
    assert host.serve() == set()
    kinds = {name: (row["kind"], row["exit_code"], row["signal"]) for name, row in host.ps().items()}
    assert kinds == {counts: ("signaled", None, 15), ends: ("exited", 7, None)}, "ends are remembered"


def test_a_directory_has_one_host_at_a_time_and_who_asks_where_none_is_served_is_told_so(host):
    host.serve()
    second = procession("serve", "--state", host.directory, check=False)
    assert second.returncode != 0
    assert f"process {host.process.pid} is a host that uses it" in second.stderr
    asked = procession("ps", "--host", str(host.folder), check=False)
    assert asked.returncode == 2
    assert "procession serve --state" in asked.stderr
    nobody = procession("stop", "--host", host.directory, "nobody", check=False)
    assert (nobody.returncode, "no proc of that name" in nobody.stderr) == (1, True)


def test_a_proc_that_does_not_end_when_asked_is_killed_when_that_is_asked(host):
    host.serve()
    (deaf,) = host.start("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    until(lambda: host.lines(deaf) == ["up"])
    done = procession("stop", "--host", host.directory, "--kill", deaf)
    assert done.stdout.startswith(f"{deaf}: stopped by us (kill: procession stop --kill)")
    row = host.ps()[deaf]
    assert (row["kind"], row["signal"]) == ("signaled", signal.SIGKILL)
    assert gone(row["pid"])


def test_only_its_user_can_ask_a_host_and_a_request_without_end_is_refused(host):
    host.serve()
    control = Path(host.directory) / "control"
    assert control.stat().st_mode & 0o777 == 0o600
    assert (Path(host.directory) / "journal").stat().st_mode & 0o777 == 0o600, "arguments and environments are in it"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(control))
        connection.sendall(b'"' + b"x" * (1 << 20))
        answer = connection.makefile("rb").readline()
    assert json.loads(answer)["kind"] == "JSONDecodeError"


def test_a_proc_that_could_not_be_found_again_is_refused():
    from procession.actor import this_host
    from procession.errors import InvalidArgument

    with pytest.raises(InvalidArgument, match="procession serve"):
        this_host().spawn_procs(
            bootstrap_command=["true"], readiness="none", on_owner_loss="detach", log_dir=os.getcwd()
        )

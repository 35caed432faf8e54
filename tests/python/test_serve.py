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
from procession import _control
from procession.errors import NotFound

COMMAND = [sys.executable, "-m", "procession"]
COUNTS = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done"
ENDS = 'echo begun; while [ ! -e "$GATE" ]; do sleep 0.01; done; echo last words; exit 7'


class Known:
    """A proc, as far as it is asked whether it has ended."""

    def __init__(self, name, ended):
        self.name = name
        self._exit = {} if ended else None

    def exit(self):
        return self._exit


def test_a_host_forgets_the_oldest_ends_and_nothing_that_lives(tmp_path):
    ended = [Known(f"ended-{i}", True) for i in range(_control.ENDED_KEPT + 1)]
    served = _control.Served(tmp_path, [[Known("alive", False)], ended], [])
    with pytest.raises(NotFound, match=r"^ended-0: no proc of that name"):
        served.stop(names=["alive", "ended-1", "ended-0"], kill=True)


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
        with open(self.folder / "said", "a") as said:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--state", self.directory], stdout=subprocess.PIPE, stderr=said, text=True
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
        given = [key if value is None else f"{key}={value}" for key, value in env.items()]
        words = [word for one in given for word in ("--env", one)]
        done = procession("start", "--host", self.directory, "--name", name, *words, "--", "/bin/sh", "-c", script)
        return done.stdout.split()

    def ps(self):
        lines = procession("ps", "--host", self.directory, "--json").stdout.splitlines()
        return {row["name"]: row for row in map(json.loads, lines)}

    def said(self):
        """What it has warned of."""
        return (self.folder / "said").read_text()

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


def test_a_program_is_started_with_limits_and_its_restart_policy_goes_on_under_the_next_host(host):
    host.serve()
    options = ["--restart", "always", "--rlimit", "nofile=64:64", "--rlimit", "core=0"]
    script = "ulimit -n; ulimit -c; exec sleep 1000"
    procession("start", "--host", host.directory, "--name", "w", *options, "--", "/bin/sh", "-c", script)
    until(lambda: host.lines("w-0") == ["64", "0"])
    before = host.ps()["w-0"]
    host.end(signal.SIGKILL)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: gone(before["pid"]))
    host.serve()
    until(lambda: (host.ps()["w-0"]["incarnation"], host.ps()["w-0"]["status"]) == (2, "running"))
    until(lambda: host.lines("w-0") == ["64", "0"])
    for wrong, words in [
        (["--rlimit", "nofile=many"], "--rlimit nofile"),
        (["--user", "nobody-of-that-name:"], "--user"),
        (["--max-restarts", "-1"], "--max-restarts"),
        (["--memory", "lots"], "--memory"),
    ]:
        refused = procession("start", "--host", host.directory, "--name", "x", *wrong, "--", "true", check=False)
        assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr


def asked(host, line):
    """The answer of the control socket to whatever comes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{host.directory}/control")
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            return json.loads(answer.readline())


def test_who_asks_for_something_else_is_told_what_there_is(host):
    host.serve()
    for line, words in [
        (b'{"call": "fly"}\n', "call = 'fly': this host knows start, list, stop"),
        (b"{}\n", "call = None: this host knows"),
        (b"[1]\n", "a request is a JSON object with a call, not a list"),
        (b'{"call": "stop", "names": []}\n', "call stop: missing a required argument: 'kill'"),
        (b'{"call": "list", "of": 1}\n', "call list: got an unexpected keyword argument 'of'"),
        (b"garbage\n", "Expecting value"),
        (b'{"call": "list"}', "a request of 16 bytes without an end"),
        (b"x" * (1 << 20), f"a request of {1 << 20} bytes without an end"),
    ]:
        assert words in asked(host, line)["error"]
    assert asked(host, b'{"call": "list"}\n') == {"ok": []}
    much = [word for n in range(11) for word in ("--env", f"A{n}={'x' * 100_000}")]
    long = procession("start", "--host", host.directory, "--name", "w", *much, "--", "true", check=False)
    assert (long.returncode, "the limit is 1048576" in long.stderr) == (2, True)
    none = procession("start", "--host", host.directory, "--name", "w", "-n", "0", "--", "true", check=False)
    assert (none.returncode, "--procs = 0: has to be at least 1" in none.stderr) == (2, True)
    host.start("w", "exec sleep 1000")
    again = procession("start", "--host", host.directory, "--name", "w", "--", "true", check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert "proc 'w-0' is alive (incarnation 1): stop it first" in again.stderr


def test_the_output_of_a_proc_is_its_own_whatever_others_are_called_and_a_variable_alone_is_taken_away(host):
    host.serve()
    (long,) = host.start("w-0.1", "echo of the long name")
    (short,) = host.start("w", 'echo "of the short name, ${HOME-without a home}"', HOME=None)
    until(lambda: host.lines(long) and host.lines(short))
    assert (host.lines(short), host.lines(long)) == (["of the short name, without a home"], ["of the long name"])


def test_a_stop_tells_why_a_kill_could_not_be_asked_for(host):
    host.serve()
    (name,) = host.start("w", "exec sleep 1000")
    (row,) = host.ps().values()
    keeper = int(Path(f"/proc/{row['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGSTOP)
    try:
        stop = subprocess.Popen(
            [*COMMAND, "stop", "--host", host.directory, "--kill", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: "KillUnavailable" in host.said(), 30)
    finally:
        os.kill(keeper, signal.SIGCONT)
    out, err = stop.communicate(timeout=50)
    assert (stop.returncode, out) == (1, f"{name}: stopped by us (kill: procession stop --kill): signal 9 (SIGKILL)\n")
    assert err.startswith(f"procession: {name} could not be asked to end: ")


def test_a_proc_that_does_not_end_when_asked_is_killed_when_that_is_asked(host):
    host.serve()
    (deaf,) = host.start("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    until(lambda: host.lines(deaf) == ["up"])
    done = procession("stop", "--host", host.directory, "--kill", deaf)
    assert done.stdout.startswith(f"{deaf}: stopped by us (kill: procession stop --kill)")
    row = host.ps()[deaf]
    assert (row["kind"], row["signal"]) == ("signaled", signal.SIGKILL)
    assert gone(row["pid"])


def test_only_its_user_can_ask_a_host_or_read_what_it_has_written_down(host):
    host.serve()
    control = Path(host.directory) / "control"
    assert control.stat().st_mode & 0o777 == 0o600
    assert (Path(host.directory) / "journal").stat().st_mode & 0o777 == 0o600, "arguments and environments are in it"


def test_a_proc_that_could_not_be_found_again_is_refused():
    from procession.actor import this_host
    from procession.errors import InvalidArgument

    with pytest.raises(InvalidArgument, match="procession serve"):
        this_host().spawn_procs(
            bootstrap_command=["true"], readiness="none", on_owner_loss="detach", log_dir=os.getcwd()
        )

"""A launcher's process is killed, aborted or stopped for 3 s in every state of a launch: one end, of the right kind, and
nothing stays."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launching import Followed, gone, pid_of_class, process_state, tells_exits, until
from procession.launch import Capabilities, ProcExitResult, ProcLauncher

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

# By what happens next.
STATES = ["requested", "sent", "forked", "executed", "handshaking", "ready", "stopping", "dead", "reaped"]
HELD_BY_THE_LAUNCHER = ["requested", "sent", "forked", "dead", "reaped"]
STOPPED_SECONDS = 3.0

# It leaves a daemon behind, and ends with 7 when told so.
PROGRAM = "trap '' TERM; setsid sleep 1000 & echo $! > {0}/daemon; echo $$ > {0}/up; until [ -e {0}/end ]; do sleep 0.01; done; exit 7"
DIALS = """
import os, socket, signal, subprocess, sys
folder, address = sys.argv[1:]
daemon = subprocess.Popen(["setsid", "sleep", "1000"])
open(folder + "/daemon", "w").write(f"{daemon.pid}\\n")
with socket.socket(socket.AF_UNIX) as to_host:
    to_host.connect(address)
    open(folder + "/up", "w").write(f"{os.getpid()}\\n")
    while True:
        signal.pause()
"""


def hold(state):
    """Waits here for as long as the test wants it, and says so."""
    name = Path(os.environ["LAUNCHER_MATRIX"], state)
    if name.exists():
        name.with_suffix(".hit").write_text(f"{os.getpid()}\n")
        while name.exists():
            time.sleep(0.002)


class Held(ProcLauncher):
    """Comes by every state of a launch by itself."""

    capabilities = Capabilities(command_attributes=True)

    def __init__(self, params=None):
        super().__init__(params)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.running = {}
        hold("requested")

    def launch(self, exit_port, proc_id, opts):
        hold("sent")
        env = opts.environment()
        process = subprocess.Popen(opts.argv, env=env, start_new_session=True, preexec_fn=lambda: hold("forked"))
        self.running[proc_id] = process
        self.report(proc_id, pid=process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        hold("dead")
        code = process.wait()
        hold("reaped")
        exit_port.send(ProcExitResult(code if code >= 0 else None, -code if code < 0 else None, False, None, []))

    def terminate(self, proc_id, timeout_secs):
        if proc_id in self.running:
            os.killpg(self.running[proc_id].pid, signal.SIGTERM)

    def kill(self, proc_id):
        if proc_id in self.running:
            os.killpg(self.running[proc_id].pid, signal.SIGKILL)


def number_in(file):
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def own_socket():
    """Where procs of this process call back."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            target = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if target.name == "lock" and target.parent.name.startswith("procession-"):
            return target.parent / "host"
    raise AssertionError("this process has no run directory")


class Case:
    """A launch that has come to a state and stays there."""

    def __init__(self, state, folder):
        self.state, self.folder = state, folder
        self.launcher = type(f"Held{state.title()}{time.monotonic_ns()}", (Held,), {})
        if state in HELD_BY_THE_LAUNCHER:
            (folder / state).touch()
        if state == "handshaking":
            (folder / "dial.py").write_text(DIALS)
            command = f"exec {sys.executable} {folder}/dial.py {folder} {own_socket()}"
        else:
            command = PROGRAM.format(folder)
        expects = {"readiness": "call_back"} if state in ("executed", "handshaking") else {}
        self.followed = Followed(self.launcher, command, **expects)
        self.procs = self.followed.procs
        if state not in ("requested", "sent", "forked"):
            number_in(folder / "up")
            until(lambda: self.procs.statuses().item().pid is not None)
        if state in ("ready", "stopping"):
            self.procs.initialized.get(20)
        if state == "stopping":
            self.procs.terminate(600)
            until(lambda: self.procs.statuses().item().status == "stopping")
        if state in ("dead", "reaped"):
            (folder / "end").touch()
        held = number_in(folder / f"{state}.hit") if state in HELD_BY_THE_LAUNCHER else None
        # The child that is held before it executes its program has a parent that waits for that.
        self.forked = held if state == "forked" else None
        if state == "forked":
            held = int(Path(f"/proc/{held}/stat").read_text().rpartition(")")[2].split()[1])
        self.pid = held or pid_of_class(self.launcher)

    def let_go(self):
        (self.folder / self.state).unlink(missing_ok=True)

    def nothing_is_left(self):
        for name in ("up", "daemon"):
            if (self.folder / name).exists():
                pid = number_in(self.folder / name)
                until(lambda pid=pid: gone(pid), seconds=10)
        until(lambda: self.forked is None or gone(self.forked), seconds=10)


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.setenv("LAUNCHER_MATRIX", str(tmp_path))
    made = []

    def reach(state):
        made.append(Case(state, tmp_path))
        return made[-1]

    yield reach
    for one in made:
        one.let_go()
        one.procs.kill().get(20)
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
        until(lambda one=one: gone(one.pid))


@pytest.mark.fault("F1")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT], ids=["kill", "abort"])
@pytest.mark.parametrize("state", STATES)
def test_the_end_of_its_launcher_ends_a_launch_once_and_leaves_nothing(case, state, number):
    one = case(state)
    os.kill(one.pid, number)
    until(lambda: gone(one.pid))
    one.let_go()
    (exit,) = one.followed.exits()
    if state in ("requested", "sent", "forked"):
        assert (exit.kind, "LauncherLost" in exit.failed_reason) == ("failed", True)
    elif state in ("dead", "reaped") and tells_exits():
        assert (exit.kind, exit.exit_code) == ("exited", 7)
    elif tells_exits():
        assert (exit.kind, exit.signal, "LauncherLost" in exit.verdict) == ("signaled", signal.SIGKILL, True)
    else:
        assert "LauncherLost" in exit.verdict
    one.nothing_is_left()


@pytest.mark.fault("F1")
@pytest.mark.parametrize("state", STATES)
def test_a_launcher_that_is_stopped_for_a_while_costs_no_launch(case, state):
    one = case(state)
    os.kill(one.pid, signal.SIGSTOP)
    until(lambda: process_state(one.pid) == "T", "it is stopped")
    one.let_go()
    time.sleep(STOPPED_SECONDS)  # the fault itself, and no waiting for something
    os.kill(one.pid, signal.SIGCONT)
    if state in ("dead", "reaped"):
        (exit,) = one.followed.exits()
        known = state == "dead" or tells_exits()  # a zombie shows how it ended
        assert (exit.kind, exit.exit_code) == (("exited", 7) if known else ("lost", None))
    else:
        number_in(one.folder / "up")
        assert one.procs.exits().item() is None
        one.procs.kill().get(20)
        (exit,) = one.followed.exits()
        assert (exit.kind, exit.signal) == ("signaled", signal.SIGKILL)
    one.nothing_is_left()

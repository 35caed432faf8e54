"""When a client is killed, nothing of what it started is left: no proc, no launcher, no grandchild that moved away."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle
import pytest

import procession
from launching import until

GONE_SECONDS = 1.0

# A launcher of each kind, two procs each; every proc starts a child, and a grandchild that is a daemon of its own.
CLIENT = """
import os, signal, subprocess, sys
from procession.actor import Actor, Port, endpoint, this_host, this_proc
from procession.launch import LaunchOptions, ProcExitResult, ProcLauncher, supervise

class Supervising(ProcLauncher):
    def __init__(self, params=None):
        super().__init__(params)
        self.procs = {}

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        self.procs[proc_id] = await supervise(opts)
        exit_port.send(await self.procs[proc_id].wait())

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        await self.procs[proc_id].terminate(timeout_secs)

    @endpoint
    async def kill(self, proc_id: str) -> None:
        await self.procs[proc_id].kill()

class Popening(ProcLauncher):
    # It knows nothing of supervise, as launchers that start somebody's client program.
    def launch(self, exit_port, proc_id, opts):
        code = subprocess.Popen(opts.argv, env=opts.environment()).wait()
        exit_port.send(ProcExitResult(max(code, 0), -code if code < 0 else None, False, None, []))

    def terminate(self, proc_id, timeout_secs):
        pass

    def kill(self, proc_id):
        pass

DAEMON = "setsid sh -c 'setsid sleep 1000 > /dev/null 2>&1 < /dev/null & echo started'"

class Parent(Actor):
    @endpoint
    def start(self) -> None:
        subprocess.Popen(["sleep", "1000"])
        subprocess.run(DAEMON, shell=True, check=True, stdout=subprocess.PIPE)

launcher = {
    "native": lambda: None,
    "class": lambda: Supervising,
    "actor": lambda: this_proc().spawn("launcher", Supervising),
    "popen class": lambda: Popening,
    "popen actor": lambda: this_proc().spawn("launcher", Popening),
}[sys.argv[1]]()
shape = {"workers": 2}
if "popen" in sys.argv[1]:
    program = ["/bin/sh", "-c", DAEMON + "; sleep 1000; :"]
    this_host().spawn_procs(shape, launcher=launcher, bootstrap_command=program, readiness="none")
else:
    procs = this_host().spawn_procs(shape, launcher=launcher)
    procs.spawn("parent", Parent).start.call().get(timeout=40)
child = 0
if sys.argv[2] == "forked":
    child = os.fork()
    if child == 0:
        signal.pause()  # and so keeps open all that the client has
print("up", child, flush=True)
sys.stdin.read()
"""


def marked(marker: str) -> dict[int, str]:
    """The processes that carry `marker` in their environment, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has just ended, or is a zombie
    return found


@pytest.mark.fault("F30")
@pytest.mark.parametrize("user", ["self", "ordinary"])
@pytest.mark.parametrize("fork", ["alone", "forked"])
@pytest.mark.parametrize(
    "launcher",
    [
        "native",
        "class",
        "actor",
        "popen class",
        "popen actor",
    ],
)
def test_a_killed_client_leaves_nothing_behind(launcher, fork, user):
    # Not pytest's folder, which other users may not enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        script = Path(folder, "client.py")
        script.write_text(CLIENT)
        name = "ORPHAN_TEST"
        environ = {**os.environ, name: folder}
        command = [sys.executable]
        if user == "ordinary":
            environ |= {"HOME": folder, "XDG_RUNTIME_DIR": "", "PYTHONPATH": copy_of_packages(Path(folder, "lib"))}
            command = [*AS_NOBODY, python_of_ordinary_user(environ)]
        command += [str(script), launcher, fork]
        killed_client_leaves_nothing(command, environ, f"{name}={folder}", fork == "forked")


def killed_client_leaves_nothing(command: list[str], environ: dict[str, str], marker: str, forked: bool) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, cwd="/", stdin=pipe, stdout=pipe, text=True) as client:
        assert client.stdout is not None
        up, child = client.stdout.readline().split()
        own = {int(child)} if forked else set()
        assert up == "up"
        assert bool(own) == (child != "0")
        # What was forked is about to execute these.
        until(lambda: sum(what == "sleep 1000 " for what in marked(marker).values()) >= 4)
        os.kill(client.pid, signal.SIGKILL)
        deadline = time.monotonic() + GONE_SECONDS
        while set(left := marked(marker)) - own and time.monotonic() < deadline:
            pass
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert set(left) == own, left


AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def copy_of_packages(to: Path) -> str:
    """What is tested, where another user can read it: a checkout may lie where none can."""
    for package in (procession, cloudpickle):
        here = Path(package.__file__).parent
        shutil.copytree(here, to / here.name, ignore=shutil.ignore_patterns("__pycache__"))
    return str(to)


def python_of_ordinary_user(environ: dict[str, str]) -> str:
    """An interpreter that another user can run and that can import what is tested."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("capability: other-users")
    probe = "import os, sys, procession._native, cloudpickle; os.stat(sys.executable)"
    for python in (sys.executable, "/usr/bin/python3"):
        command = [*AS_NOBODY, python, "-c", probe]
        if subprocess.run(command, env=environ, cwd="/", capture_output=True).returncode == 0:
            return python
    pytest.skip("capability: other-users")

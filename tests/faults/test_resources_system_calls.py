"""System calls that fail, in the client, in keeper and guard, and in the procs."""

import subprocess
import sys

import pytest

from capabilities import need

# One line for each end, and one that all is over.
SCRIPT = """
import sys
from procession.actor import Actor, endpoint, shutdown_context, this_host

class Echo(Actor):
    @endpoint
    def echo(self, it):
        return it

def native(command):
    return this_host().spawn_procs(bootstrap_command=["/bin/sh", "-c", command], readiness="none")

def tell(what, procs):
    one = procs.wait(30).get(35).item()
    print(f"{what}: {one.kind} {one.exit_code} {one.signal}: {one.failed_reason or one.verdict}", flush=True)

try:
    tell("exits", native("exit 3"))
    killed = native("sleep 1000 & exec sleep 1000")
    killed.kill().get(30)
    tell("killed", killed)
    procs = this_host().spawn_procs()
    print("echo:", procs.spawn("echo", Echo).echo.call_one(1).get(30), flush=True)
    procs.stop().get(30)
    tell("stopped", procs)
except (OSError, RuntimeError) as error:
    print("refused:", error, flush=True)
shutdown_context().get(30)
print("over", flush=True)
"""

RIGHT = [
    "exits: exited 3 None: app error: exit code 3",
    "killed: signaled None 9: stopped by us (kill: ProcMesh.kill): signal 9 (SIGKILL)",
    "echo: 1",
    "stopped: exited 0 None: stopped by us (stop: stopped by client): exit code 0",
    "over",
]


def run(calls, how, tmp_path):
    """What the script says when these system calls fail in it, and in whatever comes of it."""
    need("strace")
    trace = tmp_path / "trace"
    (tmp_path / "script.py").write_text(SCRIPT)
    strace = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={calls}", "-e", f"inject={calls}:{how}"]
    done = subprocess.run(
        [*strace, sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=55
    )
    assert "INJECTED" in trace.read_text(), "nothing has failed"
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.fault("F83")
@pytest.mark.parametrize(
    ("calls", "how"),
    [
        ("pidfd_open", "error=EMFILE:when=2"),
        ("pidfd_open", "error=EMFILE:when=2+"),
        ("pidfd_open", "error=EPERM:when=2+"),
        ("waitid", "error=EINTR:when=1"),
        ("waitid", "error=EINTR:when=1+2"),
        ("waitid", "error=ECHILD:when=1"),
        ("waitid", "error=ECHILD:when=2"),
        ("epoll_wait,epoll_pwait,poll,ppoll", "error=EINTR:when=1"),
        ("epoll_wait,epoll_pwait,poll,ppoll", "error=EINTR:when=1+2"),
        ("sendmsg", "error=EINTR:when=1+2"),
        ("recvmsg", "error=EINTR:when=1+2"),
        ("unlink,unlinkat", "error=EACCES:when=1"),
        ("mkdir,mkdirat", "error=EBUSY:when=4"),  # while the control groups are tried that can be had
    ],
)
def test_what_can_be_done_all_the_same_is_done(tmp_path, calls, how):
    assert run(calls, how, tmp_path) == RIGHT


@pytest.mark.fault("F83")
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("error=EMFILE:when=1", "Too many open files"),
        ("error=ENOSYS", "Function not implemented"),
        ("error=EPERM", "Operation not permitted"),
    ],
)
def test_without_a_descriptor_for_its_helpers_no_host_starts_and_says_so(tmp_path, how, text):
    refused, over = run("pidfd_open", how, tmp_path)
    assert refused.startswith("refused: the keeper of native procs could not be started: ")
    assert text in refused
    assert over == "over"


@pytest.mark.fault("F83")
def test_without_a_thread_for_the_runtime_no_host_starts_and_says_what_to_do(tmp_path):
    refused, over = run("clone3", "error=EAGAIN:when=1", tmp_path)
    assert refused.startswith("refused: the runtime's thread could not be started: ")
    assert "raise ulimit -u" in refused
    assert over == "over"

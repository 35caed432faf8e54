"""A process that hangs in the kernel, where no signal reaches it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

# A file system whose server takes one question and is stopped before it answers; in a mount namespace of its own.
PRELUDE = '''
import asyncio, ctypes, json, os, signal, struct, sys, time
from pathlib import Path

HEADER = struct.Struct("=IIQQIIIHH")
INIT = 26

def serve(folder):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL)  # when the script ends, however it does
    os.closerange(0, 3)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
    if libc.mount(b"stuck", folder.encode(), b"fuse", 6, options) != 0:
        os._exit(77)
    while True:
        question = os.read(device, 1 << 20)
        _, opcode, unique, *_ = HEADER.unpack_from(question)
        if opcode != INIT:
            os.kill(os.getpid(), signal.SIGSTOP)
        major, minor = 7, 31
        answer = struct.pack("=IIIIHHIIHHI28x", major, minor, 0, 0, 0, 0, 1 << 16, 0, 0, 0, 0)
        os.write(device, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)

folder = sys.argv[1]
server = os.fork()
if server == 0:
    serve(folder)
# To ask the file system itself would be the question that it stops at.
while f" {folder} " not in Path("/proc/self/mountinfo").read_text():
    pid, status = os.waitpid(server, os.WNOHANG)
    if pid:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.01)

def until_it_hangs():
    _, status = os.waitpid(server, os.WUNTRACED)
    assert os.WIFSTOPPED(status)

def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None

def until_it_is_over(pid):
    """The file system ends with its server, and so does what it held."""
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    while state(pid) not in (None, "Z"):
        time.sleep(0.01)

def told(**facts):
    print(json.dumps(facts), flush=True)
'''


@pytest.fixture
def stuck(tmp_path):
    """Runs a script that has such a file system; what it tells."""

    def run(source):
        folder, script = tmp_path / "stuck", tmp_path / "script.py"
        folder.mkdir()
        script.write_text(PRELUDE + source)
        if os.getuid() != 0 or not os.path.exists("/dev/fuse") or shutil.which("unshare") is None:
            pytest.skip("capability: fuse")
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, str(script), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150)
        if done.returncode == 77:
            pytest.skip("capability: fuse")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.fault("F16")
def test_a_kill_that_is_pending_says_so_with_pid_and_place_and_the_end_of_the_host_is_bounded(stuck):
    told = stuck(
        """
from procession.actor import shutdown_context, this_host

procs = this_host().spawn_procs(bootstrap_command=["/bin/cat", f"{folder}/file"], readiness="none")
procs.initialized.get(20)
until_it_hangs()
pid = procs.statuses().item().pid
asked = time.monotonic()
try:
    procs.kill().get(60)
    error = None
except Exception as caught:
    error = str(caught)
pending, left = time.monotonic() - asked, state(pid)
status = procs.statuses().item().status
asked = time.monotonic()
shutdown_context().get(100)
ended = time.monotonic() - asked
until_it_is_over(pid)
exit = procs.exits().item()
told(pid=pid, error=error, pending=pending, left=left, status=status, ended=ended, kind=exit.kind, verdict=exit.verdict)
"""
    )
    assert told["left"] == "D"
    assert str(told["pid"]) in told["error"], told
    assert 'in state D, in "request_wait_answer"' in told["error"], told
    assert told["pending"] < 50
    assert told["ended"] < 100


@pytest.mark.fault("F16")
def test_a_supervised_child_that_cannot_be_killed_is_reported_with_pid_and_place(stuck):
    told = stuck(
        """
from procession.actor import this_proc
from procession.launch import supervise

this_proc()  # starts the runtime

async def main():
    child = await supervise(argv=["/bin/cat", f"{folder}/file"])
    await asyncio.get_running_loop().run_in_executor(None, until_it_hangs)
    asked = time.monotonic()
    try:
        await child.kill()
        error = None
    except Exception as caught:
        error = str(caught)
    pending, left = time.monotonic() - asked, state(child.pid)
    until_it_is_over(child.pid)
    result = await child.wait()
    told(pid=child.pid, error=error, pending=pending, left=left, signal=result.signal)

asyncio.run(main())
"""
    )
    assert told["left"] == "D"
    assert str(told["pid"]) in told["error"], told
    assert 'in state D, in "request_wait_answer"' in told["error"], told
    assert told["pending"] < 50
    assert told["signal"] == 9

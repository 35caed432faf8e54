"""Where secrets are, and where they never are."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from launching import Supervising, spawn, until
from procession.actor import Actor, endpoint

# Boots a proc in two steps: what it has before it calls back stands in a file until another file lets it go on.
HELD = """
cat /proc/self/environ > {seen}/environ; cat /proc/self/cmdline > {seen}/cmdline
touch {seen}/ready; while [ ! -e {seen}/go ]; do sleep 0.02; done
exec {python} -m procession._proc_main
"""
NOBODY = 65534


class Inside(Actor):
    @endpoint
    def environ(self):
        # What user code sees, and what stands in the process since it was executed.
        own = {key: value for key, value in os.environ.items() if key.startswith("PROCESSION_")}
        return own, Path("/proc/self/environ").read_bytes(), os.getpid()


def variables(environ: bytes) -> dict[str, str]:
    pairs = (entry.decode(errors="replace").partition("=") for entry in environ.split(b"\0") if entry)
    return {name: value for name, _, value in pairs}


@pytest.mark.fault("F95")
@pytest.mark.parametrize("launcher", [None, Supervising], ids=["native", "python"])
def test_a_token_is_in_a_file_of_its_user_and_goes_with_its_use(tmp_path, launcher):
    script = HELD.format(seen=tmp_path, python=sys.executable)
    with spawn(launcher, bootstrap_command=["/bin/sh", "-c", script]) as procs:
        until((tmp_path / "ready").exists)
        seen = variables((tmp_path / "environ").read_bytes())
        scheme, _, file = seen["PROCESSION_BOOTSTRAP"].partition(":")
        assert scheme == ("behind" if launcher is None else "file")  # the flight record; of its own
        payload = Path(file).read_bytes().rpartition(b"\0")[2]
        assert len(payload) > 200
        for place in ("environ", "cmdline"):
            assert payload[:100] not in (tmp_path / place).read_bytes()
        assert Path(file).stat().st_mode & 0o777 == 0o600
        assert Path(file).parent.stat().st_mode & 0o777 == 0o700
        (tmp_path / "go").touch()
        procs.initialized.get(30)
        assert not Path(file).exists() or payload[:100] not in Path(file).read_bytes()
        own, executed, _ = procs.spawn("inside", Inside).environ.call_one().get(30)
        assert set(own) <= {"PROCESSION_LAUNCH_ID"}
        assert payload[:100] not in executed


@pytest.mark.fault("F95")
def test_another_user_reads_neither_the_environment_nor_the_token(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("capability: change-user")
    script = HELD.format(seen=tmp_path, python=sys.executable)
    with spawn(None, bootstrap_command=["/bin/sh", "-c", script]) as procs:
        until((tmp_path / "ready").exists)
        file = variables((tmp_path / "environ").read_bytes())["PROCESSION_BOOTSTRAP"].partition(":")[2]
        pid = next(iter(procs.statuses().values())).pid
        for path in (file, f"/proc/{pid}/environ", f"/proc/{pid}/fd/0"):
            command = ["/bin/cat", path]
            done = subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True)
            assert done.returncode != 0, path
            assert b"Permission denied" in done.stderr
        (tmp_path / "go").touch()
        procs.initialized.get(30)


# A client that does what goes well and what does not, with a secret in each place where there can be one, and that prints
# what anybody would.
CANARY = """
import asyncio, os, sys, traceback
from launching import Supervising, spawn, until
from procession.actor import Actor, endpoint, this_host, this_proc
from procession.launch import BootstrapCommand
import procession.actor

procession.actor.unhandled_fault_hook = lambda failure: print("fault", failure)
canary = sys.stdin.readline().strip()
secret = {"API_KEY": canary}

class Bank(Actor):
    def __init__(self, key):
        self.key = key

    @endpoint
    def check(self, key):
        return key == self.key

    @endpoint
    def fail(self, key):
        raise ValueError("no such account")

    @endpoint
    def die(self, key):
        os._exit(3)

def tell(what, run):
    try:
        given = run()
        print(what, repr(given), str(given))
        return given
    except BaseException as error:
        print(what, repr(error))
        traceback.print_exc()
        return None

def outcome(procs):
    for table in (procs.statuses(), procs.exits()):
        print(repr(table), [repr(one) for one in table.values()], [str(one) for one in table.values()])

def life(launcher):
    with spawn(launcher, env=secret) as procs:
        tell("procs", lambda: procs)
        procs.initialized.get(30)
        actor = procs.spawn("bank", Bank, canary)
        assert actor.check.call_one(canary).get(30) is True
        tell("mesh", lambda: actor)
        tell("pending", lambda: actor.check.call_one(canary))
        tell("fails", lambda: actor.fail.call_one(canary).get(30))
        tell("wrong", lambda: actor.check.call_one(canary, canary).get(30))
        tell("dies", lambda: actor.die.call_one(canary).get(30))
        tell("exits", lambda: list(procs.wait(30).get().values()))
        tell("late", lambda: actor.check.call_one(canary).get(30))
        outcome(procs)

def fails(command, **more):
    def run():
        procs = this_host().spawn_procs(bootstrap_command=command, env=secret, ready_timeout=5, **more)
        try:
            procs.initialized.get(30)
        finally:
            procs.wait(30).get()
            outcome(procs)
    tell("fails", run)

for launcher in (None, Supervising):
    life(launcher)
    fails(["/nowhere/at/all", canary], launcher=launcher)
    fails(["/bin/sh", "-c", "exit 7", "sh", canary], launcher=launcher)
    fails(["/bin/sh", "-c", "kill -9 $$", "sh", canary], launcher=launcher)
fails(["/bin/true", canary], cwd="/nowhere")
tell("command", lambda: BootstrapCommand("/bin/true", args=[], env=secret))
for bad in ({"A=B": canary}, {"A": canary + chr(0)}, {"PROCESSION_X": canary}, {"A": [canary]}, {canary: None, "": canary}):
    if canary not in bad:
        tell("bad", lambda: this_host().spawn_procs(env=bad))

import glob, socket
with socket.socket(socket.AF_UNIX) as stranger:
    stranger.connect(glob.glob(os.environ["XDG_RUNTIME_DIR"] + "/procession-*/host")[0])
    stranger.sendall(b"GET / HTTP/1.1")
    stranger.recv(1)
print("done")
"""


@pytest.mark.fault("F96")
@pytest.mark.timeout(120)
def test_a_secret_is_in_no_log_error_repr_or_trace(script):
    canary = "canary-" + os.urandom(12).hex()
    # The folders of the test are too deep for sockets.
    folder = Path(tempfile.mkdtemp())
    env = {"PROCESSION_LOG": "trace", "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    done = script(CANARY, env={**env, "XDG_RUNTIME_DIR": str(folder)}, input=canary + "\n", timeout=110)
    assert done.stdout.splitlines()[-1] == "done", done.stdout + done.stderr
    assert "ValueError: no such account" in done.stdout + done.stderr
    assert "refused a connection" in done.stderr, "the log is on"
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if canary in line] == []
    folder.rmdir()  # it is empty

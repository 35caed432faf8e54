"""Launchers that hang, or do not end what they should: bounded in time, and nobody else notices."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from launching import Followed, Supervising, exit_told_once, gone, notes, only_exit, pid_of_class, spawn, until
from procession.actor import endpoint, this_host
from procession.errors import LaunchFailed
from procession.launch import ProcExitResult, ProcLauncher, supervise

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

HELD_SECONDS = float(os.environ.get("PROCESSION_SOAK_GIL_SECONDS", "3"))
NATIVE_EXIT_SECONDS = 1.0


def hold_the_interpreter(seconds):
    """In C, so that no other thread of the process runs any Python."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def blocks():
    threading.Event().wait()


def spins():
    while True:
        pass


def holds():
    hold_the_interpreter(3600)


class Hanging(Supervising):
    """Hangs in `launch` as its params say, for procs that ask for it, and on nobody else's thread but its own."""

    how = None

    async def launch(self, exit_port, proc_id, opts):
        if "HANG" in opts.env:
            type(self).how()
        await super().launch(exit_port, proc_id, opts)


@pytest.fixture
def hanging(request):
    """A launcher class of this test's own; its process is killed at the end, as it may never answer again."""
    cls = type(
        f"Hanging{request.node.name.partition('[')[2][:-1].title()}", (Hanging,), {"how": staticmethod(request.param)}
    )
    yield cls
    os.kill(pid_of_class(cls), signal.SIGKILL)


def native_exits(count=20):
    """Seconds from the kill of native procs to their exits, sorted."""
    seconds = []
    with this_host().spawn_procs(
        {"x": count}, bootstrap_command=["sleep", "1000"], readiness="none", name="native"
    ) as procs:
        procs.initialized.get(30)
        for status, one in zip(procs.statuses().values(), range(count), strict=True):
            killed = time.monotonic()
            os.kill(status.pid, signal.SIGKILL)
            assert procs.slice(x=one).wait(20).get().item().signal == signal.SIGKILL
            seconds.append(time.monotonic() - killed)
    return sorted(seconds)


@pytest.mark.parametrize(
    "hanging",
    [
        pytest.param(blocks, marks=pytest.mark.fault("F51"), id="blocks"),
        pytest.param(spins, marks=pytest.mark.fault("F51"), id="spins"),
        pytest.param(holds, marks=[pytest.mark.fault("F51"), pytest.mark.fault("F52")], id="holds"),
    ],
    indirect=True,
)
def test_a_launch_that_hangs_is_a_timeout_and_others_do_not_notice(hanging, spawned):
    other = spawned(Supervising)
    stuck = spawn(hanging, "true", env={"HANG": "1"}, name="stuck")
    stuck.initialized.get(30)  # its launch has begun, and with it the hanging
    begun = time.monotonic()
    one = exit_told_once(hanging, "true", ack_timeout=0.5)
    assert time.monotonic() - begun < 5
    assert one.kind == "failed"
    assert one.failed_reason.startswith("LaunchTimeout: the launcher did not acknowledge the launch within 500ms")
    assert exit_told_once(other, "exit 4").exit_code == 4
    assert native_exits()[-1] < NATIVE_EXIT_SECONDS
    # Its own proc is alive to the host: beats are no business of the interpreter.
    assert stuck.statuses().item().status == "running", stuck.exits().item()
    os.kill(pid_of_class(hanging), signal.SIGKILL)
    lost = only_exit(stuck)
    assert (lost.kind, "LauncherLost" in lost.failed_reason) == ("failed", True)
    assert exit_told_once(hanging, "exit 5").exit_code == 5


@pytest.mark.fault("F51")
def test_a_launch_that_awaits_for_ever_is_a_timeout_at_the_deadline_and_costs_no_other_launch(spawned):
    class Waits(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            if "HANG" in opts.env:
                self.running[proc_id] = self
                self.waiting = exit_port
                await asyncio.Event().wait()
            await super().launch(exit_port, proc_id, opts)

        async def kill(self, proc_id):
            if self.running[proc_id] is self:
                self.waiting.send(ProcExitResult(None, 9, False, None, []))
            else:
                await super().kill(proc_id)

        async def terminate(self, proc_id, timeout_secs):
            pass

    launcher = spawned(Waits)
    stuck = spawn(launcher, env={"HANG": "1"}, ready_timeout=0.3, stop_grace=0.1)
    with pytest.raises(LaunchFailed, match="ReadyTimeout: not ready within 300ms"):
        stuck.initialized.get(20)
    assert exit_told_once(launcher, "exit 4").exit_code == 4
    one = only_exit(stuck)
    assert (one.kind, one.signal) == ("signaled", 9)
    assert "boot failed (running: not ready within 300ms)" in one.verdict


class Holding(Supervising):
    """Opens a gate, then lets no thread of its process run Python for a while, and says from when to when."""

    async def launch(self, exit_port, proc_id, opts):
        began = time.time()
        # One call in C, so that the gate opens when no other thread can run Python any more.
        ctypes.PyDLL(None).system(f"echo go > {self.params['gate']}; exec sleep {HELD_SECONDS}".encode())
        self.held = began, time.time()
        await super().launch(exit_port, proc_id, opts)

    @endpoint
    async def when_held(self):
        return self.held


@pytest.mark.fault("F52")
def test_exits_are_published_while_a_launcher_in_the_client_holds_its_interpreter(spawned, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    native = Followed(None, f"read line < {gate}; kill -9 $$", name="native")
    native.procs.initialized.get(20)
    launcher = spawned(Holding, {"gate": gate})
    assert exit_told_once(launcher, "exit 3").exit_code == 3
    (one,) = native.exits()
    told = next(event["at"] for event in native.told if event["kind"] == "exit")
    began, ended = launcher.when_held.call_one().get(10)
    assert one.signal == 9
    assert began < told < ended, "it did not wait for the interpreter"


class Refusing(ProcLauncher):
    """Runs its procs, and does with terminate and kill what its params say."""

    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}

    async def launch(self, exit_port, proc_id, opts):
        process = self.running[proc_id] = await supervise(opts)
        if self.params.get("pid"):
            self.report(proc_id, pid=process.pid)
        exit_port.send(await process.wait())

    async def terminate(self, proc_id, timeout_secs):
        await self._do("terminate", proc_id)

    async def kill(self, proc_id):
        await self._do("kill", proc_id)

    async def _do(self, what, proc_id):
        how = self.params.get(what)
        if how == "raises":
            raise NotImplementedError(f"{what} is not implemented")
        if how == "works":
            await self.running[proc_id].kill()


@pytest.mark.fault("F57")
@pytest.mark.parametrize("terminate", ["raises", "ignores"])
def test_the_kill_follows_a_terminate_that_does_nothing_at_its_timeout(spawned, terminate):
    launcher = spawned(Refusing, {"terminate": terminate, "kill": "works"})
    procs = spawn(launcher, "exec sleep 1000")
    procs.initialized.get(20)
    asked = procs.terminate(0.3)
    if terminate == "raises":
        with pytest.raises(RuntimeError, match="terminate is not implemented"):
            asked.get(20)
    one = only_exit(procs)
    assert (one.kind, one.signal) == ("signaled", 9)
    assert "terminate" in one.requested


@pytest.mark.fault("F57")
@pytest.mark.parametrize("kill", ["raises", "ignores"])
def test_a_process_that_is_known_is_killed_without_its_launcher(spawned, kill):
    procs = spawn(spawned(Refusing, {"pid": True, "kill": kill}), "exec sleep 1000")
    until(lambda: procs.statuses().item().pid is not None)
    asked = procs.kill()
    assert only_exit(procs).signal == 9
    if kill == "ignores":
        assert asked.get(20) is None
    elif (error := asked.exception(20)) is not None:  # None: it had ended by then, and needed no kill
        assert "kill is not implemented" in str(error)


@pytest.mark.fault("F57")
def test_a_kill_that_nobody_can_do_is_told_in_the_answer_and_in_the_events(spawned, tmp_path):
    os.mkfifo(tmp_path / "gate")
    followed = Followed(spawned(Refusing, {"kill": "raises"}), f"read line < {tmp_path / 'gate'}; exit 6")
    followed.procs.initialized.get(20)
    with pytest.raises(RuntimeError, match="kill is not implemented"):
        followed.procs.kill().get(20)
    (tmp_path / "gate").write_text("go\n")  # it ends by itself in the end, or the test would take as long as a kill may
    (one,) = followed.exits()
    assert (one.exit_code, "kill" in one.requested) == (6, True)
    assert any(note.startswith("KillUnavailable: ") and "kill is not implemented" in note for note in notes(followed))


CLIENT = """
import sys
from procession.actor import this_host, this_proc
from procession.launch import ProcLauncher, supervise

class Helpless(ProcLauncher):
    async def launch(self, exit_port, proc_id, opts):
        exit_port_of[proc_id] = exit_port
        process = await supervise(opts)
        print(process.pid, flush=True)
        await process.wait()

    async def terminate(self, proc_id, timeout_secs):
        raise NotImplementedError("terminate")

    async def kill(self, proc_id):
        raise NotImplementedError("kill")

exit_port_of = {}
launcher = this_proc().spawn("helpless", Helpless)
procs = this_host().spawn_procs(launcher=launcher, bootstrap_command=["sleep", "1000"], readiness="none")
procs.initialized.get(20)
sys.stdin.readline()
sys.exit(7)
"""


@pytest.mark.fault("F57")
def test_a_client_whose_procs_cannot_be_killed_ends_all_the_same_and_leaves_nothing():
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pid = int(client.stdout.readline())
    begun = time.monotonic()
    _, said = client.communicate("end\n", timeout=50)
    assert client.returncode == 7
    assert time.monotonic() - begun < 20
    assert "KillUnavailable: spawner raised: kill" in said
    until(lambda: gone(pid), seconds=10)

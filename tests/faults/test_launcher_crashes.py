"""Launchers that raise, crash or fork: what it costs, and what it does not."""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import time

import pytest

from launching import CLEAN, Followed, Supervising, exit_told_once, gone, only_exit, pid_of_class, spawn, until
from procession import launchers
from procession.errors import LauncherLost, LauncherUnavailable, LaunchFailed
from procession.launch import ProcExitResult

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

LOST_SECONDS = 2.5
RESOLVED_SECONDS = 5.0


class Raising(Supervising):
    async def launch(self, exit_port, proc_id, opts):
        if "RAISE" in opts.env:
            raise OSError("no such image")
        await super().launch(exit_port, proc_id, opts)


@pytest.mark.fault("F50")
def test_what_launch_raises_fails_that_launch_with_its_traceback_and_no_other(spawned):
    launcher = spawned(Raising)
    with spawn(launcher, per_host={"x": 2}, name="others") as others:
        others.initialized.get(30)
        one = exit_told_once(launcher, "true", env={"RAISE": "1"})
        assert (one.kind, one.failed_reason) == ("failed", "spawner raised: no such image")
        assert one.stderr_tail[0] == "Traceback (most recent call last):"
        assert one.stderr_tail[-1] == "OSError: no such image"
        assert any("in launch" in line for line in one.stderr_tail)
        assert exit_told_once(launcher, "exit 4").exit_code == 4
        assert [str(status) for status in others.statuses().values()] == ["ready"] * 2


def exits():
    sys.exit(1)


def leaves():
    os._exit(0)


def faults():
    ctypes.string_at(0)


CRASHES = {"sys.exit": exits, "os._exit": leaves, "segfault": faults, "abort": os.abort}


class Crashing(Supervising):
    """Crashes where and how a proc's environment says."""

    max_restarts = 100

    def __init__(self):
        super().__init__()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.crashes = {}

    async def launch(self, exit_port, proc_id, opts):
        self.crashes[proc_id] = opts.env.get("CRASH", ":").split(":")
        self.crash(proc_id, "launch")
        await super().launch(exit_port, proc_id, opts)

    async def terminate(self, proc_id, timeout_secs):
        self.crash(proc_id, "terminate")
        await super().terminate(proc_id, timeout_secs)

    async def kill(self, proc_id):
        self.crash(proc_id, "kill")
        await super().kill(proc_id)

    def crash(self, proc_id, where):
        if self.crashes[proc_id][0] == where:
            CRASHES[self.crashes[proc_id][1]]()


@pytest.mark.fault("F53")
@pytest.mark.parametrize("how", list(CRASHES))
@pytest.mark.parametrize("where", ["launch", "terminate", "kill"])
def test_a_launcher_that_crashes_is_lost_with_all_of_its_procs_and_started_again(where, how, capfd):
    bystander = Followed(Crashing, "exec sleep 1000", name="bystander")
    until(lambda: bystander.procs.statuses().item().pid is not None)
    launcher, child = pid_of_class(Crashing), bystander.procs.statuses().item().pid
    victim = Followed(Crashing, "exec sleep 1000", name="victim", env={"CRASH": f"{where}:{how}"})
    if where != "launch":
        until(lambda: victim.procs.statuses().item().pid is not None)
        begun = time.monotonic()
        asked = getattr(victim.procs, where)().exception(RESOLVED_SECONDS)
        # The exit may have come first, and then nothing was left to do; or what the call raised, before the end of the launcher.
        assert asked is None or type(asked) is LauncherLost or str(asked).endswith("spawner raised: 1"), asked
    else:
        begun = time.monotonic()
    (one,) = victim.exits()
    (other,) = bystander.exits()
    assert time.monotonic() - begun < RESOLVED_SECONDS
    assert not other.ok
    assert "LauncherLost: " in f"{other.failed_reason} {other.verdict}"
    assert not one.ok
    # What was killed has ended so; and what raised in its own launch was told that.
    known = one.signal == signal.SIGKILL if where == "kill" else one.failed_reason == "spawner raised: 1"
    assert known or "LauncherLost: " in f"{one.failed_reason} {one.verdict}"
    said = capfd.readouterr().err
    assert said.count("LauncherLost: the launcher has ended") == 1, said
    assert "contradiction" not in said
    until(lambda: gone(child), seconds=LOST_SECONDS)
    assert exit_told_once(Crashing, "exit 4").exit_code == 4
    assert pid_of_class(Crashing) != launcher
    until(lambda: gone(launcher))


class Short(Supervising):
    max_restarts = 1
    restart_seconds = 3600.0


@pytest.mark.fault("F53")
def test_a_launcher_that_dies_is_noticed_soon_and_started_again_as_often_as_its_limit_says():
    for _ in range(Short.max_restarts + 1):
        followed = Followed(Short, "exec sleep 1000")
        until(lambda followed=followed: followed.procs.statuses().item().pid is not None)
        killed = time.time()
        os.kill(pid_of_class(Short), signal.SIGKILL)
        (one,) = followed.exits()
        assert "LauncherLost: proc launcher-Short-" in f"{one.failed_reason} {one.verdict}"
        assert next(event["at"] for event in followed.told if event["kind"] == "exit") - killed < LOST_SECONDS
    for _ in range(2):
        procs = spawn(Short)
        one = only_exit(procs)
        assert one.kind == "failed"
        assert (
            "RestartLimit: its process has ended 2 times within 3600 s, the last time so: killed: " in one.failed_reason
        )
        assert "raise Short.max_restarts" in one.failed_reason
        with pytest.raises(LaunchFailed, match="LauncherUnavailable"):
            procs.initialized.get(10)
        with pytest.raises(LauncherUnavailable, match="RestartLimit"):
            launchers.register(Short).get(10)


def say_what_happens(exit_port, said):
    try:
        exit_port.send(CLEAN)
    except RuntimeError as error:
        said.send(str(error))
    else:
        said.send("it was sent")


class Forking(Supervising):
    """Forks, with the runtime's threads alive, and has the child use the runtime."""

    async def launch(self, exit_port, proc_id, opts):
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=say_what_happens, args=(exit_port, theirs))
        child.start()
        said = ours.recv() if ours.poll(FORK_SECONDS) else "nothing"
        child.join(FORK_SECONDS)
        code = child.exitcode
        child.kill()
        child.join()
        exit_port.send(ProcExitResult(code, None, False, None, [said]))


FORK_SECONDS = 5


@pytest.mark.fault("F54")
@pytest.mark.parametrize("own_process", [False, True], ids=["in the client", "in its own process"])
def test_a_fork_of_a_launcher_is_refused_the_runtime_and_does_not_hang(spawned, own_process):
    one = exit_told_once(Forking if own_process else spawned(Forking))
    assert (one.kind, one.exit_code) == ("exited", 0)
    assert one.stderr_tail[0].startswith(
        "ForkedRuntime: this process was forked from one that has a Procession runtime"
    )

"""Launchers in Python that several test modules use, and how to spawn through one."""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from procession._launcher_process import process_of
from procession._native import Subscription
from procession.actor import Actor, current_rank, endpoint, this_host
from procession.launch import Capabilities, ProcExitResult, ProcLauncher, supervise

CLEAN = ProcExitResult(0, None, False, None, [])


class Supervising(ProcLauncher):
    """As short as a launcher gets."""

    capabilities = Capabilities(command_attributes=True)

    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}

    async def launch(self, exit_port, proc_id, opts):
        process = self.running[proc_id] = await supervise(opts)
        self.report(proc_id, pid=process.pid, handle=f"process {process.pid}")
        exit_port.send(await process.wait())

    async def terminate(self, proc_id, timeout_secs):
        await self.running[proc_id].terminate(timeout_secs)

    async def kill(self, proc_id):
        await self.running[proc_id].kill()

    @endpoint
    async def known(self):
        return list(self.running), os.getpid()


class Blocking(ProcLauncher):
    """Its methods are plain ones that block, as those of most client libraries."""

    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}
        self.changed = threading.Condition()

    def launch(self, exit_port, proc_id, opts):
        process = subprocess.Popen(opts.argv, env=opts.environment(), start_new_session=True)
        with self.changed:
            self.running[proc_id] = process
            self.changed.notify_all()
        code = process.wait()
        exit_port.send(ProcExitResult(code if code >= 0 else None, -code if code < 0 else None, False, None, []))

    def terminate(self, proc_id, timeout_secs):
        self._signal(proc_id, signal.SIGTERM)

    def kill(self, proc_id):
        self._signal(proc_id, signal.SIGKILL)

    def _signal(self, proc_id, number):
        with self.changed:  # its launch has begun, and may not have come far
            self.changed.wait_for(lambda: proc_id in self.running)
        os.killpg(self.running[proc_id].pid, number)


class Where(Actor):
    @endpoint
    def where(self):
        return current_rank().rank, os.getpid(), os.getppid()

    @endpoint
    def say(self, text):
        print(text, flush=True)


def spawn(launcher, command=None, *, host=None, **kwargs):
    """A mesh through a launcher; of a program that never calls back, when there is a command."""
    if command is not None:
        kwargs |= {"bootstrap_command": ["/bin/sh", "-c", command], "readiness": "none"}
    return (host or this_host()).spawn_procs(launcher=launcher, **kwargs)


def only_exit(procs):
    return procs.wait(20).get().item()


def ends_once_it_is_watched(command, launcher, gate):
    """A proc whose process is known to the host when it begins to end."""
    os.mkfifo(gate)
    procs = spawn(launcher, f"read go < {gate}; {command}")
    procs.initialized.get(20)
    until(lambda: procs.statuses().item().pid is not None, "its pid is known")
    gate.write_text("go\n")
    return procs


class Followed:
    """A mesh, and all that is told of its procs, from the very beginning."""

    def __init__(self, launcher, command=None, **kwargs):
        self._subscription = Subscription(output=False, lifecycle=True)
        self.procs = spawn(launcher, command, host=this_host()._followed_by(self._subscription), **kwargs)

    def until_the_end(self):
        """All that is told until every proc has ended for good."""
        told = list(iter(lambda: self._subscription.next(20), None))
        assert self._subscription.ended
        return told

    def exits(self):
        """How all ended, by rank, once each of them has been told of exactly once."""
        given = list(self.procs.wait(20).get().values())
        self.told = self.until_the_end()
        told = Counter(one["proc_id"] for one in self.told if one["kind"] == "exit")
        assert told == {one.proc_id: 1 for one in given}
        return given


def exit_told_once(launcher, command="true", **kwargs):
    (one,) = Followed(launcher, command, **kwargs).exits()
    return one


def notes(followed):
    """The texts of what was noted about the procs of a mesh that has ended."""
    return [one["text"] for one in followed.told if one["kind"] == "note"]


def until(condition, what="it", seconds=30):
    """Asks again and again until the condition holds; what it gives then."""
    deadline = time.monotonic() + seconds
    while not (given := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.005)
    return given


def process_state(pid: int) -> str | None:
    """The letter that the kernel has for what a process does; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def gone(pid: int) -> bool:
    """Whether no process of that number runs; one that waits to be reaped does not."""
    return process_state(pid) in (None, "Z", "X")


def tells_exits() -> bool:
    """Older kernels tell nobody but its parent how a process ended."""
    return tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)


def pid_of_class(launcher) -> int:
    """The process that a launcher class runs in."""
    process = process_of(launcher)
    process.procs.initialized.get(30)
    return process.procs.statuses().item().pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

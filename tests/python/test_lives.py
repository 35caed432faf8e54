"""A life as it is told while it lasts: its statuses, their times and the events; and the rarer ends."""

import asyncio
import inspect
import os
import resource
import sys
import time
from pathlib import Path

import pytest

from launching import Followed, Supervising, spawn
from procession.actor import Actor, HostMesh, endpoint, this_host

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


LIFE = [
    ("status", "starting"),
    ("status", "running"),
    ("status", "ready"),
    ("ready", None),
    ("status", "stopping"),
    ("status", "exited"),
    ("exit", None),
]


def test_events_tell_a_whole_life_in_order():
    followed = Followed(None)
    followed.procs.initialized.get(30)
    followed.procs.stop("seen enough").get(20)
    followed.exits()
    told = [(one["kind"], one.get("status")) for one in followed.told]
    assert told == LIFE
    times = [one["at"] for one in followed.told]
    assert times == sorted(times)
    exit = followed.procs.exits().item()
    assert {(one["proc_id"], one["rank"], one["incarnation"]) for one in followed.told} == {(exit.proc_id, 0, 1)}
    assert followed.told[-1]["exit"]["verdict"] == exit.verdict


def test_events_come_while_they_happen_and_those_of_a_slice_are_its_own():
    async def main():
        procs = this_host().spawn_procs(per_host={"x": 3})
        seen = []
        async for event in procs.slice(x=1).events():
            seen.append(event)
            if event.kind == "ready":
                procs.stop("seen enough")
        return procs, seen

    procs, seen = asyncio.run(main())
    one = procs.exits().item(x=1)
    assert {(event.proc_id, event.name, event.rank, event.incarnation) for event in seen} == {
        (one.proc_id, one.name, 1, 1)
    }
    # What had happened before the first event was asked for is not told.
    told = [(event.kind, event.detail.get("status")) for event in seen]
    assert told == LIFE[-len(told) :]
    assert len(told) >= 5


def test_statuses_tell_when_each_step_was_taken():
    asked = time.time()
    with this_host().spawn_procs(per_host={"x": 2}) as procs:
        procs.initialized.get(30)
        live = list(procs.statuses().values())
        for status in live:
            assert (status.status, status.ended_at) == ("ready", None)
            assert asked <= status.started_at <= status.running_at <= status.ready_at <= time.time()
    for before, status, exit in zip(live, procs.statuses().values(), procs.exits().values(), strict=True):
        assert (status.started_at, status.running_at, status.ready_at, status.pid) == (
            before.started_at,
            before.running_at,
            before.ready_at,
            before.pid,
        )
        assert (status.status, status.ended_at) == ("exited", exit.ended_at)
        assert status.ready_at < status.ended_at <= time.time()
    with spawn(None, "exec sleep 60") as procs:
        procs.initialized.get(20)
        status = procs.statuses().item()
        assert (status.status, status.ready_at, status.ended_at) == ("running", None, None)
        assert status.started_at <= status.running_at
    failed = this_host().spawn_procs(bootstrap_command=["/no/such/program"], readiness="none")
    failed.wait(20).get()
    status = failed.statuses().item()
    assert (status.status, status.running_at, status.ready_at, status.pid) == ("failed", None, None, None)
    assert status.started_at <= status.ended_at


class Gated(Supervising):
    """It launches nothing before it may."""

    def __init__(self, params=None):
        super().__init__(params)
        self.open = asyncio.Event()

    async def launch(self, exit_port, proc_id, opts):
        await self.open.wait()
        await super().launch(exit_port, proc_id, opts)

    @endpoint
    async def let_go(self):
        self.open.set()


def test_spawning_waits_for_no_launch(spawned):
    launcher = spawned(Gated)
    with spawn(launcher, per_host={"x": 2}) as procs:
        assert not procs.initialized.done()
        assert {status.status for status in procs.statuses().values()} <= {"starting", "running"}
        assert [status.pid for status in procs.statuses().values()] == [None, None]
        assert list(procs.exits().values()) == [None, None]
        launcher.let_go.call_one().get(20)
        assert procs.initialized.get(30) is True


class Interpreter(Actor):
    @endpoint
    def which(self):
        return sys.executable, Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()


def test_the_default_program_is_this_interpreter_by_its_absolute_path(four):
    executable, arg0 = four.slice(gpus=0).spawn("interpreter", Interpreter).which.call_one().get(30)
    assert executable == arg0 == sys.executable
    assert os.path.isabs(executable)


def core_limit():
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")):
        pytest.skip(f"cores do not go to the working directory here, they go to {pattern}")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("the hard limit on the size of cores is 0 here")
    return "hard" if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY else "unlimited"


@pytest.mark.parametrize(("limit", "dumped"), [("wanted", True), ("0", False)])
def test_a_core_that_was_dumped_is_told(tmp_path, limit, dumped):
    limit = core_limit() if limit == "wanted" else limit
    (one,) = Followed(None, f"ulimit -c {limit}; kill -11 $$", cwd=tmp_path).exits()
    assert (one.kind, one.signal, one.core_dumped) == ("signaled", 11, dumped)
    assert one.verdict.endswith(", core dumped" if dumped else "signal 11 (SIGSEGV)")
    assert [path.name.startswith("core") for path in tmp_path.iterdir()] == [True] * dumped


KEEPER_KILLED = """
import os, signal
from pathlib import Path
import procession.actor
from procession.actor import Actor, endpoint, this_host

procession.actor.unhandled_fault_hook = lambda failure: None

def stat(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

class Worker(Actor):
    @endpoint
    def pid(self):
        return os.getpid()

procs = this_host().spawn_procs({"x": 3})
workers = procs.spawn("worker", Worker)
pids = list(workers.pid.call().get(30).values())
keeper, = {int(stat(pid)[1]) for pid in pids}
guard = int(stat(keeper)[1])
assert os.getpid() not in (keeper, guard) and int(stat(guard)[1]) == os.getpid()
os.kill(keeper, signal.SIGKILL)
assert list(workers.pid.call().get(30).values()) == pids, "no proc is touched"
os.kill(pids[0], signal.SIGKILL)
assert next(iter(procs.slice(x=0).wait(20).get().values())).signal == signal.SIGKILL
more = this_host().spawn_procs({"x": 1}, bootstrap_command=["sh", "-c", "exit 5"], readiness="none")
assert next(iter(more.wait(20).get().values())).exit_code == 5, "what is launched now has a keeper of its own"
os.kill(guard, signal.SIGKILL)
assert list(workers.slice(x=slice(1, 3)).pid.call().get(30).values()) == pids[1:], "no proc is touched"
os.kill(pids[1], signal.SIGKILL)
procs.slice(x=2).stop().get(20)
print([(one.kind, one.signal, one.exit_code) for one in procs.wait(20).get().values()])
"""


def test_procs_outlive_their_keeper_and_its_guard_and_their_ends_are_known(script):
    assert script(KEEPER_KILLED).stdout == "[('signaled', 9, None), ('signaled', 9, None), ('exited', None, 0)]\n"


def test_spawn_procs_takes_what_the_contract_names():
    parameters = inspect.signature(HostMesh.spawn_procs).parameters
    assert {name: one.default for name, one in parameters.items() if name != "self"} == {
        "per_host": None,
        "bootstrap": None,
        "name": None,
        "bootstrap_command": None,
        "proc_bind": None,
        "launcher": None,
        "readiness": "call_back",
        "env": None,
        "clear_env": False,
        "cwd": None,
        "user": None,
        "rlimits": None,
        "resources": None,
        "security": None,
        "restart": None,
        "preload": (),
        "fork_server": True,
        "ready_timeout": 30.0,
        "stop_grace": 10.0,
        "ack_timeout": 30.0,
        "unknown_budget": 60.0,
        "lease": 10.0,
        "tail_lines": 100,
        "log_dir": None,
        "log_max_bytes": None,
        "log_keep": 3,
        "on_owner_loss": "kill",
    }
    assert list(parameters)[1:3] == ["per_host", "bootstrap"]
    positional = [name for name, one in parameters.items() if one.kind is not one.KEYWORD_ONLY]
    assert positional == ["self", "per_host", "bootstrap", "name"]

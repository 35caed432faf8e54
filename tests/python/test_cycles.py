"""Many lives in one client leave no trace in it."""

import os
from pathlib import Path

import pytest

from procession.actor import Actor, Port, endpoint, this_host
from procession.launch import LaunchOptions, ProcExitResult, ProcLauncher, supervise

CYCLES = 100


class Plain(ProcLauncher):
    def __init__(self, params=None):
        super().__init__(params)
        self.procs = {}

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        self.procs[proc_id] = await supervise(opts)
        exit_port.send(await self.procs.pop(proc_id).wait())

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        if proc := self.procs.get(proc_id):
            await proc.terminate(timeout_secs)

    @endpoint
    async def kill(self, proc_id: str) -> None:
        if proc := self.procs.get(proc_id):
            await proc.kill()


class Echo(Actor):
    @endpoint
    def echo(self, value: int) -> int:
        return value


def traces() -> dict[str, int]:
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "sockets": sum(1 for path in Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*") if path.is_socket()),
    }


def one_life(launcher: type[ProcLauncher] | None) -> None:
    procs = this_host().spawn_procs(per_host={"workers": 1}, launcher=launcher)
    assert procs.spawn("echo", Echo).echo.call_one(7).get(timeout=30) == 7
    procs.stop().get(timeout=30)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("launcher", [None, Plain], ids=["native", "python"])
def test_a_hundred_lives_leave_no_descriptor_thread_or_socket(launcher):
    for _ in range(5):
        one_life(launcher)
    before = traces()
    for _ in range(CYCLES):
        one_life(launcher)
    after = traces()
    # A thread of the pool may have come, or gone, in between; anything that leaks comes in hundreds.
    assert all(after[what] <= before[what] + 2 for what in before), (before, after)

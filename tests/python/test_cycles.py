"""Many lives in one client leave no trace: in it, in the keeper, and in the process of a launcher."""

import os
from pathlib import Path

import pytest

from launching import until
from procession.actor import Actor, Port, endpoint, this_host
from procession.launch import LaunchOptions, ProcExitResult, ProcLauncher, supervise

LIVES, TOGETHER = 200, 4
SETTLE_SECONDS = 2.0


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


class Kin(Actor):
    @endpoint
    def parent(self) -> int:
        return os.getppid()


def lives(launcher: type[ProcLauncher] | None) -> int:
    """The pid of what the procs were children of."""
    procs = this_host().spawn_procs(per_host={"workers": TOGETHER}, launcher=launcher)
    parents = procs.spawn("kin", Kin).parent.call().get(timeout=30)
    procs.stop().get(timeout=30)
    (parent,) = set(parents.values())
    return parent


def traces(processes: dict[str, int]) -> dict[str, int]:
    found = {"sockets": sum(path.is_socket() for path in Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*"))}
    for name, pid in processes.items():
        for what in ("fd", "task"):
            found[f"{what} of the {name}"] = len(os.listdir(f"/proc/{pid}/{what}"))
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("launcher", [None, Plain], ids=["native", "python"])
def test_two_hundred_lives_leave_no_descriptor_thread_or_socket(launcher):
    processes = {"client": os.getpid(), "keeper": lives(None)}
    if launcher is not None:
        processes["launcher"] = lives(launcher)
        assert processes["launcher"] not in (processes["client"], processes["keeper"])
    for _ in range(3):
        lives(launcher)
    before = traces(processes)
    for _ in range(LIVES // TOGETHER):
        parent = lives(launcher)
        assert parent == processes.get("launcher", processes["keeper"]), "the same one launches them all"
    # Threads of a pool may have come, or gone, in between, and a keeper lets go of its reserve of 8 descriptors for as
    # long as it looks through /proc; anything that leaks comes in hundreds.
    allowed = {what: count if what == "sockets" else count + 10 for what, count in before.items()}
    more = {}

    def settled():
        after = traces(processes)
        more.clear()
        more.update({what: (before[what], count) for what, count in after.items() if count > allowed[what]})
        return not more

    until(settled, more, SETTLE_SECONDS)

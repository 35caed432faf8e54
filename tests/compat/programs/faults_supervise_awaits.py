"""An async `__supervise__` awaits other actors, and the owner goes on handling messages meanwhile."""

import asyncio
import time

import monarch.actor
from monarch.actor import Actor, MeshFailure, endpoint, this_host, this_proc

from facts import fact


class Child(Actor):
    @endpoint
    async def fail(self) -> None:
        raise ValueError("failed")


class Helper(Actor):
    @endpoint
    async def help(self) -> str:
        return "helped"


class Owner(Actor):
    def __init__(self) -> None:
        self.log = []
        self.door = asyncio.Event()
        self.child = this_proc().spawn("child", Child)
        self.helper = this_proc().spawn("helper", Helper)

    @endpoint
    async def break_child(self) -> None:
        self.child.fail.broadcast()

    @endpoint
    async def open(self) -> None:
        self.log.append("opened")
        self.door.set()

    @endpoint
    async def seen(self) -> list:
        return self.log

    async def __supervise__(self, failure: MeshFailure) -> bool:
        self.log.append("told")
        await self.door.wait()
        self.log.append(await self.helper.help.call_one())
        return True


def wait_for(owner: Owner, length: int) -> list:
    until = time.monotonic() + 20
    while len(seen := owner.seen.call_one().get(timeout=20)) < length and time.monotonic() < until:
        time.sleep(0.02)
    return seen


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: fact("the hook was told", True)
    owner = this_host().spawn_procs().spawn("owner", Owner)
    owner.break_child.call_one().get(timeout=20)
    fact("first", wait_for(owner, 1))
    owner.open.call_one().get(timeout=20)
    fact("then", wait_for(owner, 3))

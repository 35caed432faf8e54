"""A proc that an actor has launched is killed: the actor's `__supervise__` is told."""

import os
import signal
import time

import monarch.actor
from monarch.actor import Actor, MeshFailure, endpoint, this_host

from facts import fact


class Leaf(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()


class Owner(Actor):
    def __init__(self) -> None:
        self.failures = []

    @endpoint
    async def launch(self) -> int:
        self.leaf = this_host().spawn_procs().spawn("leaf", Leaf)
        return await self.leaf.pid.call_one()

    @endpoint
    async def seen(self) -> list:
        return self.failures

    def __supervise__(self, failure: MeshFailure) -> bool:
        self.failures.append("leaf" in (failure.mesh_name or ""))
        return True


if __name__ == "__main__":
    hooked = []
    monarch.actor.unhandled_fault_hook = hooked.append
    owner = this_host().spawn_procs().spawn("owner", Owner)
    os.kill(owner.launch.call_one().get(timeout=30), signal.SIGKILL)
    until = time.monotonic() + 25
    while not (seen := owner.seen.call_one().get(timeout=20)) and time.monotonic() < until:
        time.sleep(0.02)
    fact("told", bool(seen))
    fact("the hook was told", len(hooked))

"""An owned actor whose `__init__` raises: the owner's `__supervise__` is told."""

import time

import monarch.actor
from monarch.actor import Actor, MeshFailure, endpoint, this_host, this_proc

from facts import fact


class Broken(Actor):
    def __init__(self) -> None:
        raise ValueError("cannot be built")

    @endpoint
    def get(self) -> int:
        return 1


class Owner(Actor):
    def __init__(self) -> None:
        self.failures = []

    @endpoint
    async def spawn(self) -> None:
        self.broken = this_proc().spawn("broken", Broken)

    @endpoint
    async def seen(self) -> list:
        return self.failures

    async def __supervise__(self, failure: MeshFailure) -> bool:
        self.failures.append("cannot be built" in failure.report())
        return True


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: fact("the hook was told", True)
    owner = this_host().spawn_procs().spawn("owner", Owner)
    owner.spawn.call_one().get(timeout=20)
    until = time.monotonic() + 20
    while not (seen := owner.seen.call_one().get(timeout=20)) and time.monotonic() < until:
        time.sleep(0.02)
    fact("seen", seen[:1])

"""The owner's `__supervise__` is told, handles it, and nobody else hears of it."""

import time

import monarch.actor
from monarch.actor import Actor, MeshFailure, endpoint, this_host, this_proc

from facts import fact


class Child(Actor):
    @endpoint
    async def fail(self) -> None:
        raise ValueError("of the child")


class Owner(Actor):
    def __init__(self) -> None:
        self.failures = []
        self.child = this_proc().spawn("child", Child)

    @endpoint
    async def break_child(self) -> None:
        self.child.fail.broadcast()

    @endpoint
    async def seen(self) -> list:
        return self.failures

    def __supervise__(self, failure: MeshFailure) -> bool:
        self.failures.append(["of the child" in failure.report(), "child" in (failure.mesh_name or "")])
        return True


if __name__ == "__main__":
    hooked = []
    monarch.actor.unhandled_fault_hook = hooked.append
    owner = this_host().spawn_procs().spawn("owner", Owner)
    owner.break_child.call_one().get()
    until = time.monotonic() + 20
    while not (seen := owner.seen.call_one().get(timeout=20)) and time.monotonic() < until:
        time.sleep(0.02)
    fact("seen", seen)
    time.sleep(0.5)
    fact("the hook was told", len(hooked))
    fact("the owner lives", owner.seen.call_one().get(timeout=20) == seen)

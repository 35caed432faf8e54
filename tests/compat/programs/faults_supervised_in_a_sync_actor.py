"""`__supervise__` of a sync actor, and one that is async in an async actor."""

import time

import monarch.actor
from monarch.actor import Actor, MeshFailure, endpoint, this_host, this_proc

from facts import fact


class Child(Actor):
    @endpoint
    def fail(self) -> None:
        raise ValueError("of the child")


class SyncOwner(Actor):
    def __init__(self) -> None:
        self.count = 0
        self.child = this_proc().spawn("child", Child)

    @endpoint
    def break_child(self) -> None:
        self.child.fail.broadcast()

    @endpoint
    def seen(self) -> int:
        return self.count

    def __supervise__(self, failure: MeshFailure) -> bool:
        self.count += 1
        return True


class AsyncOwner(Actor):
    def __init__(self) -> None:
        self.count = 0
        self.child = this_proc().spawn("child", Child)

    @endpoint
    async def break_child(self) -> None:
        self.child.fail.broadcast()

    @endpoint
    async def seen(self) -> int:
        return self.count

    async def __supervise__(self, failure: MeshFailure) -> bool:
        self.count += 1
        return True


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: fact("the hook was told", True)
    for cls in (SyncOwner, AsyncOwner):
        owner = this_host().spawn_procs().spawn("owner", cls)
        owner.break_child.call_one().get()
        until = time.monotonic() + 20
        while not (seen := owner.seen.call_one().get(timeout=20)) and time.monotonic() < until:
            time.sleep(0.02)
        fact(cls.__name__, seen)

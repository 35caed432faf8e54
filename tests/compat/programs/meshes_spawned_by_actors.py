"""Actors spawn actors in their own proc, keep them, and give them away."""

import os

from monarch.actor import Actor, endpoint, this_host, this_proc

from facts import fact


class Child(Actor):
    def __init__(self, x: int) -> None:
        self.x = x

    @endpoint
    def get(self) -> list[int]:
        return [self.x, os.getpid()]


class Parent(Actor):
    def __init__(self) -> None:
        self.child = this_proc().spawn("child", Child, 1)

    @endpoint
    def ask(self) -> bool:
        return self.child.get.call_one().get() == [1, os.getpid()]

    @endpoint
    def another(self, x: int) -> Child:
        return this_proc().spawn("another", Child, x)

    @endpoint
    def pid(self) -> int:
        return os.getpid()


class AsyncParent(Actor):
    @endpoint
    async def ask(self) -> int:
        child = this_proc().spawn("child", Child, 5)
        return (await child.get.call_one())[0]


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    parents = procs.spawn("parent", Parent)
    fact("in __init__", list(parents.ask.call().get().values()))
    child = parents.slice(gpus=1).another.call_one(7).get()
    pid = parents.slice(gpus=1).pid.call_one().get()
    fact("given away", child.get.call_one().get() == [7, pid])
    fact("from an async actor", list(procs.spawn("async", AsyncParent).ask.call().get().values()))

"""A `__supervise__` that gives False, or raises, ends the owner, and its own owner is told."""

import threading

import monarch.actor
from monarch.actor import Actor, MeshFailure, endpoint, this_host, this_proc

from facts import fact


class Child(Actor):
    @endpoint
    async def fail(self) -> None:
        raise ValueError("of the child")


class Refusing(Actor):
    def __init__(self) -> None:
        self.child = this_proc().spawn("child", Child)

    @endpoint
    async def break_child(self) -> None:
        self.child.fail.broadcast()

    def __supervise__(self, failure: MeshFailure) -> bool:
        return False


class Raising(Refusing):
    def __supervise__(self, failure: MeshFailure) -> bool:
        raise KeyError("of the owner")


class Without(Actor):
    def __init__(self) -> None:
        self.child = this_proc().spawn("child", Child)

    @endpoint
    async def break_child(self) -> None:
        self.child.fail.broadcast()


if __name__ == "__main__":
    for cls, words in ((Refusing, "of the child"), (Raising, "KeyError"), (Without, "of the child")):
        told = threading.Event()
        reports = []

        def hook(failure: MeshFailure, told=told, reports=reports) -> None:
            reports.append(failure.report())
            told.set()

        monarch.actor.unhandled_fault_hook = hook
        owner = this_host().spawn_procs().spawn("owner", cls)
        owner.break_child.call_one().get()
        fact(f"{cls.__name__}: told", told.wait(20))
        fact(f"{cls.__name__}: report", words in reports[0])

"""Actors and procs that are stopped on purpose are no faults."""

import time

import monarch.actor
from monarch.actor import Actor, context, endpoint, this_host

from facts import fact


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1

    @endpoint
    def leave(self) -> None:
        context().actor_instance.stop("done")


if __name__ == "__main__":
    told = []
    monarch.actor.unhandled_fault_hook = told.append
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    first, second, third = (procs.spawn(name, Fine) for name in ("first", "second", "third"))
    for mesh in (first, second, third):
        mesh.get.call().get(timeout=20)
    first.stop().get(timeout=20)
    second.leave.broadcast()
    time.sleep(0.5)
    procs.stop().get(timeout=20)
    time.sleep(0.5)
    fact("the hook was told", len(told))

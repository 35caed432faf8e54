"""Calls to actors that were stopped; their procs live on."""

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    fine = procs.spawn("fine", Fine)
    fact("before", list(fine.get.call().get().values()))
    fine.stop("work is done").get(timeout=20)
    with raises("after it"):
        fine.get.call().get(timeout=20)
    with raises("one of it"):
        fine.slice(gpus=0).get.call_one().get(timeout=20)
    fact("a new one", list(procs.spawn("fine", Fine).get.call().get().values()))

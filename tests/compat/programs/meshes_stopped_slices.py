"""A slice of procs is stopped, and the others go on."""

import monarch.actor
from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact, tried

BETTER = {
    "stop": ["raises ValueError", False, "every slice of procs can be stopped"],
}


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return current_rank().rank


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    procs = this_host().spawn_procs(per_host={"gpus": 3})
    fine = procs.spawn("fine", Fine)
    fact("before", list(fine.get.call().get().values()))
    tried("stop", lambda: bool(procs.slice(gpus=2).stop().get(timeout=20)))
    tried("the others", lambda: list(fine.slice(gpus=slice(0, 2)).get.call().get(timeout=10).values()))

"""A `__cleanup__` that raises."""

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import tried


class Untidy(Actor):
    @endpoint
    def get(self) -> int:
        return 1

    def __cleanup__(self, exc: Exception | None) -> None:
        raise ValueError("cannot be cleaned up")


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    procs = this_host().spawn_procs()
    untidy = procs.spawn("untidy", Untidy)
    tried("before", lambda: untidy.get.call_one().get(timeout=20))
    tried("stop", lambda: bool(untidy.stop().get(timeout=20)))
    tried("procs stop", lambda: bool(procs.stop().get(timeout=20)))

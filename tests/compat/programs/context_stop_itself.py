"""An actor stops itself: calls to it fail then, and others in its proc go on."""

import monarch.actor
from monarch.actor import Actor, context, endpoint, this_host

from facts import fact, kind

BETTER: dict = {}


class Tired(Actor):
    @endpoint
    def leave(self) -> None:
        context().actor_instance.stop("tired")

    @endpoint
    def value(self) -> int:
        return 1


def end_of(tired: Tired) -> str:
    for _ in range(1000):
        try:
            tired.value.call_one().get(timeout=10)
        except Exception as error:
            return kind(error)
    return "nothing"


if __name__ == "__main__":
    # a call that is under way when the actor stops may be told to the hook, too
    monarch.actor.unhandled_fault_hook = lambda failure: None
    procs = this_host().spawn_procs()
    tired = procs.spawn("tired", Tired)
    fact("before", tired.value.call_one().get())
    tired.leave.broadcast()
    fact("in the end", end_of(tired))
    fact("another one lives", procs.spawn("other", Tired).value.call_one().get())

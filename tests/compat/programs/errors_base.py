"""What is no Exception, raised in an endpoint, ends the actor."""

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import raises

BETTER = {
    "the call": ["SupervisionError", "ActorError", "the caller is told what was raised; the actor ends all the same"],
}


class Leaving(Actor):
    @endpoint
    def leave(self) -> None:
        raise SystemExit(3)

    @endpoint
    def value(self) -> int:
        return 5


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    leaving = this_host().spawn_procs().spawn("leaving", Leaving)
    with raises("the call"):
        leaving.leave.call_one().get(timeout=20)
    with raises("the next"):
        leaving.value.call_one().get(timeout=20)

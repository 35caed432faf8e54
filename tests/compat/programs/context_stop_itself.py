"""An actor stops itself: what has come before is still answered."""

from monarch.actor import Actor, context, endpoint, this_host

from facts import fact

BETTER: dict = {}


class Tired(Actor):
    @endpoint
    def leave(self) -> str:
        context().actor_instance.stop("tired")
        return "left"

    @endpoint
    def value(self) -> int:
        return 1


if __name__ == "__main__":
    procs = this_host().spawn_procs()
    tired = procs.spawn("tired", Tired)
    fact("before", tired.value.call_one().get())
    fact("the last answer", tired.leave.call_one().get(timeout=10))
    other = procs.spawn("other", Tired)
    fact("another one lives", other.value.call_one().get())

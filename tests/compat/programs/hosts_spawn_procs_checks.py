"""`spawn_procs` and `spawn` refuse what they cannot take."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Fine(Actor):
    def __init__(self, x: int) -> None:
        self.x = x

    @endpoint
    def get(self) -> int:
        return self.x


class Plain:
    pass


if __name__ == "__main__":
    procs = this_host().spawn_procs(name="workers")
    fact("a name", procs.sizes)
    with raises("no actor class"):
        procs.spawn("plain", Plain)
    with raises("__init__ lacks an argument"):
        procs.spawn("fine", Fine)
    with raises("__init__ with too many"):
        procs.spawn("fine", Fine, 1, 2)
    fact("by keyword", procs.spawn("fine", Fine, x=3).get.call_one().get())
    fact("the same name again", procs.spawn("fine", Fine, x=4).get.call_one().get())
    first, second = procs.spawn("twin", Fine, 1), procs.spawn("twin", Fine, 2)
    fact("both live", [first.get.call_one().get(), second.get.call_one().get()])

"""Endpoints are inherited, overridden and called through super(); on the actor itself they are plain methods."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Base(Actor):
    def __init__(self) -> None:
        self.tag = "base"

    @endpoint
    def who(self) -> str:
        return self.tag

    @endpoint
    def twice(self) -> str:
        return self.helper() * 2

    def helper(self) -> str:
        return "b"


class Derived(Base):
    def __init__(self) -> None:
        super().__init__()
        self.tag = "derived"

    def helper(self) -> str:
        return "d"

    @endpoint
    def own(self) -> str:
        return "own"


class Hidden(Base):
    def who(self) -> str:
        return "no endpoint any more"


if __name__ == "__main__":
    procs = this_host().spawn_procs()
    derived = procs.spawn("derived", Derived)
    fact("inherited", derived.who.call_one().get())
    fact("with an overridden helper", derived.twice.call_one().get())
    fact("own", derived.own.call_one().get())
    with raises("overridden by a plain method", "not annotated"):
        procs.spawn("hidden", Hidden).who()

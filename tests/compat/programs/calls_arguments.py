"""Arguments are checked against the endpoint's signature where the call is made."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Signatures(Actor):
    @endpoint
    def plain(self, a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> list:
        return [a, b, list(rest), c, more]

    @endpoint
    def two(self, a: int, b: int) -> list:
        return [a, b]

    @endpoint
    def positional(self, a: int, /, *, key: int) -> list:
        return [a, key]


if __name__ == "__main__":
    actor = this_host().spawn_procs().spawn("signatures", Signatures)
    fact("defaults", actor.plain.call_one(1).get())
    fact("everything", actor.plain.call_one(1, 5, 6, 7, c=8, d=9).get())
    fact("by name", actor.two.call_one(b=1, a=2).get())
    fact("positional only", actor.positional.call_one(1, key=2).get())
    with raises("too few"):
        actor.two.call_one(1)
    with raises("too many"):
        actor.two.call(1, 2, 3)
    with raises("unknown name"):
        actor.two.broadcast(1, c=2)
    with raises("twice"):
        actor.two.choose(1, 2, a=3)
    with raises("in a stream"):
        actor.two.stream()
    with raises("positional only by name"):
        actor.positional.call_one(a=1, key=2)
    fact("the actor lives", actor.two.call_one(1, 2).get())

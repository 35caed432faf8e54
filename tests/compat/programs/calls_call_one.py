"""`call_one` takes a mesh of one, and refuses a larger one where it is called."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact, raises


class Named(Actor):
    @endpoint
    def rank(self) -> int:
        return current_rank().rank


if __name__ == "__main__":
    named = this_host().spawn_procs(per_host={"gpus": 3}).spawn("named", Named)
    fact("one", named.slice(gpus=2).rank.call_one().get())
    fact("a slice that keeps its dimension", named.slice(gpus=slice(1, 2)).rank.call_one().get())
    with raises("of three"):
        named.rank.call_one().get()
    with raises("of three, without waiting"):
        named.rank.call_one()

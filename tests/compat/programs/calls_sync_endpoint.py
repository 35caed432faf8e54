"""A sync endpoint is called on every rank, and the results come by rank."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact


class Adder(Actor):
    def __init__(self, base: int) -> None:
        self.base = base

    @endpoint
    def add(self, number: int) -> int:
        self.base += number
        return self.base * 10 + current_rank().rank


if __name__ == "__main__":
    adders = this_host().spawn_procs(per_host={"gpus": 2}).spawn("adder", Adder, 5)
    first = adders.add.call(1).get()
    fact("values", list(first.values()))
    fact("items", [[dict(point), value] for point, value in first.items()])
    fact("state is kept", list(adders.add.call(2).get().values()))
    fact("length", len(first))

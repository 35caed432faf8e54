"""Meshes of actors in arguments and results: whole, sliced, inside of other values."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact


class Leaf(Actor):
    @endpoint
    def rank(self) -> list[int]:
        return [current_rank().rank, len(current_rank().extent)]


class Caller(Actor):
    @endpoint
    def call(self, leaves: Leaf) -> list:
        return list(leaves.rank.call().get().values())

    @endpoint
    def first(self, box: dict) -> list:
        return box["leaves"].slice(a=0, b=0).rank.call_one().get()

    @endpoint
    def give_back(self, leaves: Leaf) -> Leaf:
        return leaves.slice(b=1)

    @endpoint
    def shape(self, leaves: Leaf) -> dict:
        return leaves.sizes


if __name__ == "__main__":
    leaves = this_host().spawn_procs(per_host={"a": 2, "b": 2}).spawn("leaf", Leaf)
    caller = this_host().spawn_procs().spawn("caller", Caller)
    fact("whole", caller.call.call_one(leaves).get())
    fact("a slice", caller.call.call_one(leaves.slice(a=1)).get())
    fact("flattened", caller.shape.call_one(leaves.flatten("x")).get())
    fact("inside of a dict", caller.first.call_one({"leaves": leaves}).get())
    back = caller.give_back.call_one(leaves).get()
    fact("came back", [back.sizes, list(back.rank.call().get().values())])

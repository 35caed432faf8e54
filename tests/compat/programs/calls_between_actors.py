"""Actors call actors of other procs, and themselves through a mesh that they were given."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact


class Leaf(Actor):
    @endpoint
    async def value(self, x: int) -> int:
        return x * 10 + current_rank().rank


class Root(Actor):
    def __init__(self, leaves: Leaf) -> None:
        self.leaves = leaves

    @endpoint
    async def total(self, x: int) -> int:
        return sum((await self.leaves.value.call(x)).values())

    @endpoint
    async def one(self, x: int) -> int:
        return await self.leaves.slice(gpus=1).value.call_one(x)


class SyncRoot(Actor):
    def __init__(self, leaves: Leaf) -> None:
        self.leaves = leaves

    @endpoint
    def total(self, x: int) -> int:
        return sum(self.leaves.value.call(x).get().values())


if __name__ == "__main__":
    leaves = this_host().spawn_procs(per_host={"gpus": 2}).spawn("leaf", Leaf)
    others = this_host().spawn_procs()
    root = others.spawn("root", Root, leaves)
    fact("an async actor", root.total.call_one(1).get())
    fact("a slice", root.one.call_one(2).get())
    fact("a sync actor", others.spawn("sync", SyncRoot, leaves).total.call_one(3).get())

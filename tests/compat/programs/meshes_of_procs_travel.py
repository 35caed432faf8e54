"""A mesh of procs is passed to an actor, which spawns on it."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact


class Leaf(Actor):
    @endpoint
    def rank(self) -> int:
        return current_rank().rank


class Spawner(Actor):
    @endpoint
    def spawn(self, procs) -> list[int]:
        return list(procs.spawn("leaf", Leaf).rank.call().get().values())

    @endpoint
    def shape(self, procs) -> dict:
        return procs.sizes


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    spawner = this_host().spawn_procs().spawn("spawner", Spawner)
    fact("spawns there", spawner.spawn.call_one(procs).get())
    fact("on a slice", spawner.spawn.call_one(procs.slice(gpus=slice(1, 2))).get())
    fact("sizes", spawner.shape.call_one(procs).get())

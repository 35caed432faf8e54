"""`choose` gives one value, of some rank of the mesh."""

from monarch.actor import Actor, context, endpoint, this_host

from facts import fact


class Worker(Actor):
    def __init__(self) -> None:
        self.calls = 0

    @endpoint
    def where(self) -> int:
        self.calls += 1
        return context().actor_instance.rank.rank

    @endpoint
    def count(self) -> int:
        return self.calls


if __name__ == "__main__":
    workers = this_host().spawn_procs(per_host={"gpus": 2}).spawn("worker", Worker)
    chosen = [workers.where.choose().get() for _ in range(24)]
    fact("one value each", all(rank in (0, 1) for rank in chosen))
    fact("every rank has its turn", sorted(set(chosen)))
    fact("each call went to one", sum(workers.count.call().get().values()))
    fact("of one", {workers.slice(gpus=1).where.choose().get() for _ in range(3)} == {1})

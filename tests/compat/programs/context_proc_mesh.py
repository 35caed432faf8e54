"""The mesh of procs that an actor was spawned on, as the actor sees it."""

from monarch.actor import Actor, context, current_rank, endpoint, this_host, this_proc

from facts import fact


class Peer(Actor):
    @endpoint
    def value(self) -> int:
        return current_rank().rank


class Seeing(Actor):
    def __init__(self) -> None:
        self.first = dict(context().actor_instance.proc_mesh.sizes)

    @endpoint
    def seen(self) -> list:
        instance = context().actor_instance
        return [self.first, dict(instance.proc_mesh.sizes), instance.proc.size(), dict(instance.rank)]

    @endpoint
    def peers(self) -> list[int]:
        peers = context().actor_instance.proc_mesh.spawn("peers", Peer)
        return [value for _, value in peers.value.call().get(timeout=20).items()]


class SeeingAsync(Actor):
    @endpoint
    async def seen(self) -> dict:
        return dict(context().actor_instance.proc_mesh.sizes)


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"rows": 2, "columns": 2})
    seeing = procs.spawn("seeing", Seeing)
    fact("all", [value for _, value in seeing.seen.call().get(timeout=30).items()])
    row = procs.slice(rows=1).spawn("row", Seeing)
    fact("of a slice", [value for _, value in row.seen.call().get(timeout=30).items()])
    fact("peers", row.slice(columns=0).peers.call_one().get(timeout=30))
    asynchronous = procs.spawn("async", SeeingAsync)
    fact("async", [value for _, value in asynchronous.seen.call().get(timeout=30).items()])
    fact("the client", context().actor_instance.proc_mesh.size())
    here = this_proc().spawn("here", Seeing)
    fact("in the client", here.seen.call_one().get(timeout=30))

"""Ranks and sizes that an actor sees, in meshes of several dimensions and in slices of them."""

from monarch.actor import Actor, context, current_rank, current_size, endpoint, this_host

from facts import fact


class Where(Actor):
    @endpoint
    def message(self) -> list:
        return [current_rank().rank, dict(current_rank()), current_size()]

    @endpoint
    def own(self) -> list:
        rank = context().actor_instance.rank
        return [rank.rank, dict(rank), dict(rank.extent)]


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"a": 2, "b": 2})
    where = procs.spawn("where", Where)
    fact("all", list(where.message.call().get().values()))
    fact("own", list(where.own.call().get().values()))
    fact("a column", list(where.slice(b=1).message.call().get().values()))
    fact("own in a column", list(where.slice(b=1).own.call().get().values()))
    fact("one", where.slice(a=1, b=0).message.call_one().get())
    fact("chosen", where.slice(a=1, b=0).message.choose().get())
    part = procs.slice(a=1).spawn("part", Where)
    fact("spawned on a slice", list(part.message.call().get().values()))
    fact("own of that", list(part.own.call().get().values()))
    fact("a slice of that", part.slice(b=1).message.call_one().get())

"""`flatten` and `rename`, of procs, actors and values."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact, raises


class Where(Actor):
    @endpoint
    def point(self) -> list:
        return [current_rank().rank, dict(current_rank())]


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"a": 2, "b": 3})
    where = procs.spawn("where", Where)
    fact("flat procs", procs.flatten("rank").sizes)
    fact("flat actors", list(where.flatten("rank").point.call().get().values()))
    values = where.point.call().get().flatten("all")
    fact("flat values", [[dict(point), value[0]] for point, value in values.items()])
    fact("renamed", procs.rename(a="x").sizes)
    fact("renamed twice", procs.rename(a="x", b="y").sizes)
    fact("swapped", procs.rename(a="b", b="a").sizes)
    fact("a renamed mesh is called", list(where.rename(a="x").slice(x=1).point.call().get().values()))
    with raises("a sparse mesh", "cannot flatten sparse mesh"):
        where.slice(b=slice(0, 2)).flatten("x")
    with raises("renamed to one that is there"):
        procs.rename(a="b")
    fact("a row", where.slice(a=0).flatten("x").sizes)

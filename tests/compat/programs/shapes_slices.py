"""Slices: an integer drops a dimension, a slice keeps it; of procs, of actors, of slices."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import raises, tried

BETTER = {
    "with a step": [
        "raises ValueError",
        [[0, 2, 3, 5], {"rows": 2, "columns": 2}],
        "a slice whose step does not divide the size keeps what it hits",
    ],
}


class Where(Actor):
    def __init__(self) -> None:
        self.born = current_rank().rank

    @endpoint
    def born_at(self) -> int:
        return self.born


def ranks(mesh) -> list[int]:
    return list(mesh.born_at.call().get().values())


if __name__ == "__main__":
    where = this_host().spawn_procs(per_host={"rows": 2, "columns": 3}).spawn("where", Where)
    tried("all", lambda: ranks(where))
    tried("a row", lambda: [ranks(where.slice(rows=1)), where.slice(rows=1).sizes])
    tried("a column", lambda: [ranks(where.slice(columns=1)), where.slice(columns=1).sizes])
    tried("a range", lambda: [ranks(where.slice(columns=slice(1, 3))), where.slice(columns=slice(1, 3)).sizes])
    tried(
        "with a step", lambda: [ranks(where.slice(columns=slice(0, 3, 2))), where.slice(columns=slice(0, 3, 2)).sizes]
    )
    tried("a point", lambda: [ranks(where.slice(rows=1, columns=2)), where.slice(rows=1, columns=2).sizes])
    tried("open ends", lambda: ranks(where.slice(rows=slice(None), columns=slice(2, None))))
    tried("of a slice", lambda: ranks(where.slice(rows=1).slice(columns=slice(0, 2)).slice(columns=1)))
    tried("beyond the end", lambda: ranks(where.slice(columns=slice(1, 99))))
    with raises("unknown dimension", "does not have dimension labeled 'x'"):
        where.slice(x=0)
    with raises("index too large", "index out of range"):
        where.slice(rows=2)
    with raises("negative index"):
        where.slice(rows=-1)
    with raises("dropped dimension"):
        where.slice(rows=0).slice(rows=0)

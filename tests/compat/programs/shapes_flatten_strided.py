"""`flatten` of a mesh whose ranks have one stride, and is not the whole."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact, kind

BETTER = {
    "a column": [
        "ValueError",
        [[1, {"x": 0}], [3, {"x": 1}]],
        "whatever has one stride can be flattened, not the whole mesh and its rows only",
    ],
}


class Where(Actor):
    def __init__(self) -> None:
        self.born = current_rank().rank

    @endpoint
    def point(self) -> list:
        return [self.born, dict(current_rank())]


if __name__ == "__main__":
    where = this_host().spawn_procs(per_host={"a": 2, "b": 2}).spawn("where", Where)
    try:
        column = where.slice(b=1).flatten("x")
        fact("a column", list(column.point.call().get().values()))
    except Exception as error:
        fact("a column", kind(error))
    try:
        row = where.slice(a=1).flatten("x")
        fact("the second row", list(row.point.call().get().values()))
    except Exception as error:
        fact("the second row", kind(error))

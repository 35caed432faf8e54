"""`ValueMesh`: items, values, item, get, iteration, slices, pickling."""

import pickle

from monarch.actor import Actor, Point, ValueMesh, current_rank, endpoint, this_host

from facts import raises, tried

BETTER = {
    "strided": ["raises ValueError", [0, 2, 3, 5], "a slice whose step does not divide the size keeps what it hits"],
    "get out of range": ["ValueError", "IndexError", "as for any other index out of range"],
}


class Where(Actor):
    @endpoint
    def rank(self) -> int:
        return current_rank().rank


if __name__ == "__main__":
    values = this_host().spawn_procs(per_host={"a": 2, "b": 3}).spawn("where", Where).rank.call().get()
    tried("type", lambda: type(values).__name__)
    tried("is a ValueMesh", lambda: isinstance(values, ValueMesh))
    tried("values", lambda: list(values.values()))
    tried("items", lambda: [[dict(point), value] for point, value in values.items()])
    tried("points", lambda: all(isinstance(point, Point) for point, _ in values.items()))
    tried("iterates as items", lambda: [[point.rank, value] for point, value in values])
    tried("item", lambda: values.item(a=1, b=2))
    tried("get", lambda: [values.get(0), values.get(4)])
    tried("length", lambda: len(values))
    tried("sizes", lambda: values.sizes)
    tried("extent", lambda: dict(values.extent))
    tried("size", lambda: values.size("b"))
    row = values.slice(a=1)
    tried("a slice", lambda: [row.sizes, list(row.values()), [point.rank for point, _ in row.items()]])
    tried("item of a slice", lambda: row.item(b=0))
    tried("one value", lambda: values.slice(a=1, b=1).item())
    tried("strided", lambda: list(values.slice(b=slice(0, 3, 2)).values()))
    tried("split", lambda: values.split(b=("c", "d"), c=3).sizes)
    tried("flat", lambda: list(values.flatten("x").slice(x=slice(2, 4)).values()))
    again = pickle.loads(pickle.dumps(values))
    tried("pickled", lambda: [again.sizes, list(again.values())])
    with raises("item without a dimension"):
        values.item(a=1)
    with raises("item with one too many"):
        values.item(a=1, b=1, c=1)
    with raises("get out of range"):
        values.get(6)
    with raises("slice out of range"):
        values.slice(a=2)

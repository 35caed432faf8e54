"""How values, extents and points look when they are printed."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact

DIFFERENT = {
    "values": [
        "ValueMesh({a: 2}):\n  (({'a': 0/2}, 0), ({'a': 1/2}, 1))",
        "ValueMesh({a: 2}):\n  ({'a': 0/2}, 0),\n  ({'a': 1/2}, 1)",
        "a line for each rank, however short",
    ],
}


class Where(Actor):
    @endpoint
    def rank(self) -> int:
        return current_rank().rank


if __name__ == "__main__":
    values = this_host().spawn_procs(per_host={"a": 2}).spawn("where", Where).rank.call().get()
    fact("values", repr(values))
    fact("point", [str(point) for point, _ in values.items()])
    fact("extent", str(values.extent))

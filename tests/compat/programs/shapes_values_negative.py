"""`ValueMesh.item` with a coordinate that is out of range."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import raises

BETTER = {
    "a negative rank": ["OverflowError", "IndexError", "as for any other index out of range"],
    "negative": ["OverflowError", "IndexError", "as for any other index out of range"],
}


class Where(Actor):
    @endpoint
    def rank(self) -> int:
        return current_rank().rank


if __name__ == "__main__":
    values = this_host().spawn_procs(per_host={"a": 2}).spawn("where", Where).rank.call().get()
    with raises("too large"):
        values.item(a=2)
    with raises("negative"):
        values.item(a=-1)
    with raises("a negative rank"):
        values.get(-1)
    with raises("no number"):
        values.item(a="x")

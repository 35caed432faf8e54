"""`split` makes several dimensions of one, and infers one size."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact, raises

BETTER = {
    "a name twice": ["KeyError", "ValueError", "the error of all wrong splits, with the name in its text"],
}


class Where(Actor):
    @endpoint
    def point(self) -> dict:
        return dict(current_rank())


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 4})
    split = procs.split(gpus=("dp", "tp"), tp=2)
    fact("sizes", split.sizes)
    fact("both given", procs.split(gpus=("a", "b"), a=4, b=1).sizes)
    fact("three", procs.split(gpus=("a", "b", "c"), a=2, b=2).sizes)
    fact("the same name", procs.split(gpus=("gpus", "x"), x=2).sizes)
    where = procs.spawn("where", Where)
    fact("ranks of a split mesh", list(where.split(gpus=("dp", "tp"), tp=2).point.call().get().values()))
    fact("a slice of it", list(where.split(gpus=("dp", "tp"), tp=2).slice(dp=1).point.call().get().values()))
    with raises("two unknown sizes", "have unknown size"):
        procs.split(gpus=("a", "b"))
    with raises("does not divide", "not evenly divided"):
        procs.split(gpus=("a", "b"), a=3)
    with raises("wrong product", "not evenly divided"):
        procs.split(gpus=("a", "b"), a=2, b=3)
    with raises("a name twice"):
        procs.split(gpus=("a", "a"), a=2)
    with raises("an unused size", "unused size constraints"):
        procs.split(gpus=("a", "b"), a=2, x=2)
    with raises("a str", "expected a sequence"):
        procs.split(gpus="ab")
    with raises("no int"):
        procs.split(gpus=("a", "b"), a="2")

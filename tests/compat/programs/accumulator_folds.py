"""`Accumulator` folds the answers of a mesh."""

import asyncio

from monarch.actor import Accumulator, Actor, current_rank, endpoint, this_host

from facts import fact, raises


class Part(Actor):
    @endpoint
    def value(self, x: int) -> int:
        if x < 0:
            raise ValueError("negative")
        return x + current_rank().rank


async def awaited(total: Accumulator) -> int:
    return await total.accumulate(100)


if __name__ == "__main__":
    parts = this_host().spawn_procs(per_host={"gpus": 3}).spawn("part", Part)
    total = Accumulator(parts.value, 1000, lambda a, b: a + b)
    fact("sum", total.accumulate(1).get())
    fact("again", total.accumulate(10).get())
    fact("of a slice", Accumulator(parts.slice(gpus=2).value, 0, max).accumulate(5).get())
    fact("another type", sorted(Accumulator(parts.value, [], lambda a, b: [*a, b]).accumulate(0).get()))
    fact("awaited", asyncio.run(awaited(total)))
    with raises("one fails"):
        total.accumulate(-10).get()
    with raises("wrong arguments"):
        total.accumulate()

"""An async actor fans out to many others with gather, streams and comprehensions."""

import asyncio

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact


class Leaf(Actor):
    @endpoint
    async def value(self, x: int) -> int:
        await asyncio.sleep(0.01)
        return x * 10 + current_rank().rank


class Fan(Actor):
    def __init__(self, leaves: Leaf) -> None:
        self.leaves = leaves

    @endpoint
    async def gathered(self) -> list[int]:
        calls = [self.leaves.slice(gpus=rank).value.call_one(rank) for rank in range(3)]
        return list(await asyncio.gather(*(call.as_asyncio() for call in calls)))

    @endpoint
    async def streamed(self) -> list[int]:
        return sorted([await future for future in self.leaves.value.stream(5)])

    @endpoint
    async def as_completed(self) -> list[int]:
        futures = [future.as_asyncio() for future in self.leaves.value.stream(6)]
        return sorted([await future for future in asyncio.as_completed(futures)])


if __name__ == "__main__":
    leaves = this_host().spawn_procs(per_host={"gpus": 3}).spawn("leaf", Leaf)
    fan = this_host().spawn_procs().spawn("fan", Fan, leaves)
    fact("gathered", fan.gathered.call_one().get(timeout=20))
    fact("streamed", fan.streamed.call_one().get(timeout=20))
    fact("as completed", fan.as_completed.call_one().get(timeout=20))

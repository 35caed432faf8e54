"""Async endpoints run on a loop of the actor, one at a time and in order."""

import asyncio

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Slow(Actor):
    def __init__(self) -> None:
        self.log = []

    @endpoint
    async def work(self, name: str, seconds: float) -> int:
        self.log.append(f"{name} begins")
        await asyncio.sleep(seconds)
        self.log.append(f"{name} ends")
        return len(self.log)

    @endpoint
    async def read(self) -> list[str]:
        return self.log


if __name__ == "__main__":
    slow = this_host().spawn_procs().spawn("slow", Slow)
    first, second = slow.work.call_one("a", 0.05), slow.work.call_one("b", 0.0)
    fact("second", second.get())
    fact("first", first.get())
    fact("log", slow.read.call_one().get())

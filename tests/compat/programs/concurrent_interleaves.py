"""Concurrent endpoints run side by side, and a normal one runs while they wait."""

import asyncio

from monarch.actor import Actor, concurrent_endpoint, endpoint, this_host

from facts import fact


class Doors(Actor):
    def __init__(self) -> None:
        self.door = asyncio.Event()
        self.inside = 0

    @concurrent_endpoint
    async def enter(self, name: str) -> str:
        self.inside += 1
        await self.door.wait()
        return f"{name} of {self.inside}"

    @endpoint
    async def open(self) -> int:
        while self.inside < 3:
            await asyncio.sleep(0.001)
        self.door.set()
        return self.inside


if __name__ == "__main__":
    doors = this_host().spawn_procs().spawn("doors", Doors)
    waiting = [doors.enter.call_one(name) for name in "abc"]
    fact("were inside", doors.open.call_one().get(timeout=20))
    fact("answers", [future.get(timeout=20) for future in waiting])

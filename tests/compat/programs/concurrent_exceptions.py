"""An exception of a concurrent endpoint goes to its caller, and the others go on."""

import asyncio

from monarch.actor import Actor, Port, concurrent_endpoint, endpoint, this_host

from facts import fact, raises


class Mixed(Actor):
    def __init__(self) -> None:
        self.door = asyncio.Event()

    @concurrent_endpoint
    async def wait(self) -> str:
        await self.door.wait()
        return "waited"

    @concurrent_endpoint
    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("failed")

    @concurrent_endpoint(explicit_response_port=True)
    async def explicit(self, port: Port[int], x: int) -> None:
        await asyncio.sleep(0)
        port.send(x)

    @concurrent_endpoint
    async def cancelled(self) -> None:
        raise asyncio.CancelledError("by itself")

    @endpoint
    async def open(self) -> None:
        self.door.set()


if __name__ == "__main__":
    mixed = this_host().spawn_procs().spawn("mixed", Mixed)
    waiting = mixed.wait.call_one()
    with raises("fails", "ValueError: failed"):
        mixed.fail.call_one().get(timeout=20)
    fact("explicit", mixed.explicit.call_one(4).get(timeout=20))
    with raises("a CancelledError of its own"):
        mixed.cancelled.call_one().get(timeout=20)
    mixed.open.call_one().get(timeout=20)
    fact("the other", waiting.get(timeout=20))

"""A receiver is awaited inside an actor, which gets what others send to its port."""

import asyncio

from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact


class Source(Actor):
    @endpoint
    async def feed(self, port: Port[int], count: int) -> None:
        for number in range(count):
            port.send(number)
            await asyncio.sleep(0)


class Sink(Actor):
    @endpoint
    async def collect(self, source: Source, count: int) -> list[int]:
        port, receiver = Channel[int].open()
        done = source.feed.call_one(port, count)
        got = [await receiver.recv() for _ in range(count)]
        await done
        return got

    @endpoint
    async def timeout(self) -> str:
        _, receiver = Channel[int].open()
        try:
            await asyncio.wait_for(receiver.recv().as_asyncio(), 0.05)
        except TimeoutError:
            return "timeout"
        return "value"


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    source = procs.slice(gpus=0).spawn("source", Source)
    sink = procs.slice(gpus=1).spawn("sink", Sink)
    fact("collected", sink.collect.call_one(source, 5).get())
    fact("nothing comes", sink.timeout.call_one().get())

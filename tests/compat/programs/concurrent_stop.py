"""What concurrent endpoints still do is cancelled at the stop, before `__cleanup__` runs."""

import asyncio

from monarch.actor import Actor, Channel, Port, concurrent_endpoint, endpoint, this_host

from facts import fact


class Worker(Actor):
    def __init__(self, log: Port[str]) -> None:
        self.log = log

    @concurrent_endpoint
    async def work(self, name: str) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.log.send(f"{name} cancelled")
            raise

    @endpoint
    async def ready(self) -> None:
        await asyncio.sleep(0.05)

    async def __cleanup__(self, exc: Exception | None) -> None:
        self.log.send(f"cleanup {exc}")


if __name__ == "__main__":
    port, log = Channel[str].open()
    worker = this_host().spawn_procs().spawn("worker", Worker, port)
    worker.work.broadcast("a")
    worker.work.broadcast("b")
    worker.ready.call_one().get()
    worker.stop().get(timeout=20)
    lines = [log.recv().get(timeout=10) for _ in range(3)]
    fact("cancelled", sorted(lines[:2]))
    fact("then", lines[2])

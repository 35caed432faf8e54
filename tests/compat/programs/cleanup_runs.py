"""`__cleanup__` runs at the stop, sync and async, with None; without one nothing is missing."""

import asyncio

from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact

BETTER = {
    "Sync: stop gives": [[], None, "None, as it is typed on both"],
    "Async: stop gives": [[], None, "None, as it is typed on both"],
    "without one": [[], None, "None, as it is typed on both"],
}


class Sync(Actor):
    def __init__(self, port: Port[str]) -> None:
        self.port = port

    @endpoint
    def get(self) -> int:
        return 1

    def __cleanup__(self, exc: Exception | None) -> None:
        self.port.send(f"sync {exc}")


class Async(Actor):
    def __init__(self, port: Port[str]) -> None:
        self.port = port

    @endpoint
    async def get(self) -> int:
        return 1

    async def __cleanup__(self, exc: Exception | None) -> None:
        await asyncio.sleep(0)
        self.port.send(f"async {exc}")


class Nothing(Actor):
    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    procs = this_host().spawn_procs()
    port, log = Channel[str].open()
    for cls in (Sync, Async):
        actor = procs.spawn("one", cls, port)
        actor.get.call_one().get()
        fact(f"{cls.__name__}: stop gives", actor.stop().get(timeout=20))
        fact(f"{cls.__name__}: said", log.recv().get(timeout=10))
    last = procs.spawn("nothing", Nothing)
    last.get.call_one().get()
    fact("without one", last.stop("because").get(timeout=20))

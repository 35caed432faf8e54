"""`initialized` of procs and of actors."""

import asyncio

from monarch.actor import Actor, Future, endpoint, this_host

from facts import fact, tried


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1


async def both(procs, actors) -> list[bool]:
    return [await procs.initialized, await actors.initialized in (True, None)]


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    fact("a Future", isinstance(procs.initialized, Future))
    fact("procs", procs.initialized.get(timeout=30))
    actors = procs.spawn("fine", Fine)
    fact("actors", actors.initialized.get(timeout=30) in (True, None))
    fact("awaited", asyncio.run(both(procs, actors)))
    tried("of a slice", lambda: procs.slice(gpus=0).initialized.get(timeout=30))

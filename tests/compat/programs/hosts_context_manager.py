"""Procs in an `async with` block end with it."""

import asyncio

from monarch.actor import Actor, endpoint, this_host

from facts import fact, kind


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1


async def main() -> None:
    async with this_host().spawn_procs(per_host={"gpus": 2}) as procs:
        actors = procs.spawn("fine", Fine)
        fact("inside", list((await actors.get.call()).values()))
    try:
        await asyncio.wait_for(actors.get.call().as_asyncio(), 10)
    except Exception as error:
        fact("after it", kind(error))


if __name__ == "__main__":
    asyncio.run(main())

"""The same of an async endpoint, awaited, and passed on from actor to actor."""

import asyncio

from monarch.actor import Actor, ActorError, endpoint, this_host

from facts import fact


class Failing(Actor):
    @endpoint
    async def fail(self, text: str) -> None:
        await asyncio.sleep(0)
        raise KeyError(text)

    @endpoint
    async def value(self) -> int:
        return 5


class Middle(Actor):
    def __init__(self, failing: Failing) -> None:
        self.failing = failing

    @endpoint
    async def through(self) -> None:
        await self.failing.fail.call_one("deep")

    @endpoint
    async def caught(self) -> str:
        try:
            await self.failing.fail.call_one("deep")
        except ActorError as error:
            return type(error.exception).__name__
        return "nothing"


async def main(failing: Failing, middle: Middle) -> None:
    try:
        await failing.fail.call_one("first")
    except ActorError as error:
        fact("awaited", [type(error.exception).__name__, "first" in str(error)])
    results = await asyncio.gather(
        *[failing.fail.call_one("g").as_asyncio(), failing.value.call_one().as_asyncio()], return_exceptions=True
    )
    fact("gathered", [type(results[0]).__name__, results[1]])
    fact("caught in an actor", await middle.caught.call_one())
    try:
        await middle.through.call_one()
    except ActorError as error:
        fact("through an actor", [type(error.exception).__name__, "deep" in str(error), "KeyError" in str(error)])


if __name__ == "__main__":
    procs = this_host().spawn_procs()
    failing = procs.spawn("failing", Failing)
    asyncio.run(main(failing, procs.spawn("middle", Middle, failing)))

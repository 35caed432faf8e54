"""`returns_future` makes a function of an `async def` whose result can be waited for in both ways."""

import asyncio
import contextvars
import threading

from monarch.actor import Actor, Future, endpoint, returns_future, this_host

from facts import fact, raises, tried

began: list[str] = []
name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


@returns_future
async def twice(value: int) -> int:
    began.append("twice")
    await asyncio.sleep(0)
    return 2 * value


@returns_future
async def fail() -> None:
    raise KeyError("no")


@returns_future
async def who() -> str:
    await asyncio.sleep(0)
    got = name.get()
    name.set("the body")
    return got


ends: list[str] = []


@returns_future
async def slow() -> str:
    try:
        await asyncio.sleep(60)
    finally:
        ends.append("ended")
    return "late"


class Doubling(Actor):
    @endpoint
    def double(self, value: int) -> int:
        return 2 * value


class Using(Actor):
    @endpoint
    async def use(self, value: int) -> int:
        return await twice(value)


class UsingSync(Actor):
    @endpoint
    def use(self, value: int) -> int:
        return twice(value).get()


if __name__ == "__main__":
    future = twice(4)
    fact("not begun", list(began))
    fact("get", [future.get(), future.get(), future.result(), began])

    async def wait(future):
        return await future

    async def both(future):
        return list(await asyncio.gather(wait(future), wait(future), future.as_asyncio()))

    began.clear()
    fact("awaited", [asyncio.run(wait(twice(5))), asyncio.run(both(twice(6))), began])
    kept = twice(7)
    fact("awaited, then got", [asyncio.run(wait(kept)), kept.get()])
    with raises("raises"):
        fail().get()
    failed = fail()
    fact("exception", [type(failed.exception()).__name__, type(failed.exception()).__name__])
    with raises("raises, awaited"):
        asyncio.run(wait(fail()))
    name.set("the caller")
    asked = who()
    name.set("somebody else")
    fact("context", [asked.get(), name.get()])
    late = slow()
    with raises("a timeout"):
        late.get(timeout=0.05)
    fact("is cancelled by it", list(ends))
    with raises("the same outcome"):
        late.get(timeout=5)
    got: list[int] = []
    shared = twice(8)
    threads = [threading.Thread(target=lambda: got.append(shared.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fact("threads", got)
    with raises("no coroutine"):
        returns_future(lambda: 1)
    fact("name", [twice.__name__, isinstance(twice(1), Future)])
    procs = this_host().spawn_procs()
    doubling = procs.spawn("doubling", Doubling)

    @returns_future
    async def remotely(value: int) -> int:
        return await doubling.double.call_one(await twice(value))

    fact("calls of actors", [remotely(1).get(timeout=20), asyncio.run(wait(remotely(2)))])
    using = procs.spawn("using", Using)
    fact("in an async actor", using.use.call_one(3).get(timeout=20))
    using_sync = procs.spawn("using_sync", UsingSync)
    tried("in a sync actor", lambda: using_sync.use.call_one(3).get(timeout=20))
    dropped = twice(1)
    began.clear()
    del dropped
    fact("dropped", list(began))

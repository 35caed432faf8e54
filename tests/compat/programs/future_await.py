"""Futures in asyncio: awaited, gathered, awaited twice, cancelled, with a timeout."""

import asyncio
import time

from monarch.actor import Actor, endpoint, this_host

from facts import fact, kind


class Slow(Actor):
    @endpoint
    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @endpoint
    def fail(self) -> None:
        raise ValueError("failed")


async def main(slow: Slow) -> None:
    fact("await", await slow.sleep.call_one(0))
    fact("call", list((await slow.sleep.call(0)).values()))
    futures = [slow.sleep.call_one(0.01) for _ in range(3)]
    fact("gather", await asyncio.gather(*[future.as_asyncio() for future in futures]))
    twice = slow.sleep.call_one(0.01)
    fact("twice", [await twice, await twice])
    fact("as_asyncio", isinstance(slow.sleep.call_one(0).as_asyncio(), asyncio.Future))
    late = slow.sleep.call_one(0.3)
    try:
        await asyncio.wait_for(late.as_asyncio(), 0.02)
    except TimeoutError:
        fact("wait_for", "timeout")
    fact("and then", await late)
    try:
        await slow.fail.call_one()
    except Exception as error:
        fact("raises", kind(error))
    fact("get after await", twice.get(timeout=0))


if __name__ == "__main__":
    slow = this_host().spawn_procs().spawn("slow", Slow)
    asyncio.run(main(slow))
    try:
        slow.sleep.call_one(0).as_asyncio()
    except RuntimeError:
        fact("as_asyncio without a loop", "RuntimeError")

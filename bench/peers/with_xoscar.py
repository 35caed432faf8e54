"""Runs on xoscar: a pool of processes, and an actor in each."""

import asyncio
import os
import signal

import numpy as np
import xoscar as xo
from xoscar.backends.allocate_strategy import ProcessIndex

from common import (
    BUFFER_MIB,
    CALLS,
    KILL_SECONDS,
    RATE_SECONDS,
    SPAWNS,
    WINDOW,
    Clock,
    Found,
    looked_at,
    median_of,
    memory_below,
)


class Echo(xo.Actor):
    async def echo(self, value):
        return value

    async def pid(self):
        return os.getpid()

    async def take(self, data):
        return looked_at(memoryview(data))

    async def hang(self):
        signal.pause()

    async def ping(self, other):
        took = []
        for _ in range(CALLS):
            clock = Clock()
            await other.echo(1)
            took.append(clock.seconds())
        return median_of(took)

    async def pipeline(self, other):
        clock, done = Clock(), 0
        while clock.seconds() < RATE_SECONDS:
            await asyncio.gather(*[other.echo(1) for _ in range(WINDOW)])
            done += WINDOW
        return done / clock.seconds()

    async def cast(self, other):
        clock, done = Clock(), 0
        while clock.seconds() < RATE_SECONDS:
            for _ in range(WINDOW):
                await other.echo.tell(1)
            await other.pid()
            done += WINDOW
        return done / clock.seconds()


async def timed(work, times):
    took = []
    for _ in range(times):
        clock = Clock()
        await work()
        took.append(clock.seconds())
    return took


async def main():
    found = Found()
    for count in SPAWNS:
        clock = Clock()
        pool = await xo.create_actor_pool("127.0.0.1", n_process=count, auto_recover=False)
        address = pool.external_address
        actors = [
            await xo.create_actor(Echo, uid=f"echo-{n}", address=address, allocate_strategy=ProcessIndex(n + 1))
            for n in range(count)
        ]

        async def everyone(actors=actors):
            await asyncio.gather(*[one.echo(1) for one in actors])

        await everyone()
        found[f"spawn {count}"] = clock.seconds()
        found[f"gather {count}"] = median_of(await timed(everyone, CALLS * 4 // count))
        if count == SPAWNS[-1]:
            found["memory"] = memory_below() / count
            pid = await actors[0].pid()
            waiting = asyncio.ensure_future(actors[0].hang())
            await asyncio.sleep(0.1)  # a task: it is sent once this one waits
            clock = Clock()
            os.kill(pid, signal.SIGKILL)
            try:
                await asyncio.wait_for(waiting, KILL_SECONDS)
            except TimeoutError:
                found.failed["kill"] = f"the call had not failed after {KILL_SECONDS:g} s"
            except Exception:
                found["kill"] = clock.seconds()
        else:
            found["call"] = await actors[1].ping(actors[0])
            found["pipeline"] = await actors[1].pipeline(actors[0])
            found["cast"] = await actors[1].cast(actors[0])
            data = np.full(BUFFER_MIB << 20, 1, dtype=np.uint8)
            best = min(await timed(lambda a=actors, d=data: a[0].take(d), 3))
            found["buffer"] = (BUFFER_MIB << 20) / best
        clock = Clock()
        try:
            await asyncio.wait_for(pool.stop(), 30)
        except Exception as error:
            found.failed["stop"] = f"{type(error).__name__}: {error}"[:200]
        if count == SPAWNS[0]:
            found["stop"] = clock.seconds()
    found.print()


if __name__ == "__main__":
    asyncio.run(main())

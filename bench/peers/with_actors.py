"""Runs on Procession and on Monarch, whose actor APIs are one: `with_actors.py procession`, `with_actors.py monarch`."""

import importlib
import os
import signal
import sys

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

LIBRARY = os.environ.setdefault("BENCH_LIBRARY", sys.argv[1] if len(sys.argv) > 1 else "procession")
actor = importlib.import_module(f"{LIBRARY}.actor")


class Echo(actor.Actor):
    @actor.endpoint
    def echo(self, value):
        return value

    @actor.endpoint
    def pid(self):
        return os.getpid()

    @actor.endpoint
    def take(self, data):
        return looked_at(memoryview(data))

    @actor.endpoint
    def hang(self):
        signal.pause()


class Caller(actor.Actor):
    @actor.endpoint
    async def ping(self, other):
        took = []
        for _ in range(CALLS):
            clock = Clock()
            await other.echo.call_one(1)
            took.append(clock.seconds())
        return median_of(took)

    @actor.endpoint
    async def pipeline(self, other):
        clock, done = Clock(), 0
        while clock.seconds() < RATE_SECONDS:
            for future in [other.echo.call_one(1) for _ in range(WINDOW)]:
                await future
            done += WINDOW
        return done / clock.seconds()

    @actor.endpoint
    async def cast(self, other):
        clock, done = Clock(), 0
        while clock.seconds() < RATE_SECONDS:
            for _ in range(WINDOW):
                other.echo.broadcast(1)
            await other.pid.call_one()  # behind all of them
            done += WINDOW
        return done / clock.seconds()


def timed(work, times):
    took = []
    for _ in range(times):
        clock = Clock()
        work()
        took.append(clock.seconds())
    return took


def main():
    actor.unhandled_fault_hook = lambda failure: None
    found = Found()
    for count in SPAWNS:
        clock = Clock()
        procs = actor.this_host().spawn_procs(per_host={"workers": count})
        echoes = procs.spawn("echo", Echo)
        echoes.echo.call(1).get(timeout=120)
        found[f"spawn {count}"] = clock.seconds()
        found[f"gather {count}"] = median_of(timed(lambda e=echoes: e.echo.call(1).get(timeout=60), CALLS * 4 // count))
        if count == SPAWNS[-1]:
            found["memory"] = memory_below() / count
        else:
            first, second = echoes.slice(workers=0), procs.slice(workers=1).spawn("caller", Caller)
            found["call"] = second.ping.call_one(first).get(timeout=60)
            found["pipeline"] = second.pipeline.call_one(first).get(timeout=120)
            found["cast"] = second.cast.call_one(first).get(timeout=120)
            import numpy as np

            data = np.full(BUFFER_MIB << 20, 1, dtype=np.uint8)
            best = min(timed(lambda f=first, d=data: f.take.call_one(d).get(timeout=120), 3))
            found["buffer"] = (BUFFER_MIB << 20) / best
        if count == SPAWNS[-1]:
            pid = echoes.slice(workers=0).pid.call_one().get(timeout=60)
            waiting = echoes.slice(workers=0).hang.call_one()
            clock = Clock()
            os.kill(pid, signal.SIGKILL)
            try:
                waiting.get(timeout=KILL_SECONDS)
            except TimeoutError:
                found.failed["kill"] = f"the call had not failed after {KILL_SECONDS:g} s"
            except Exception:
                found["kill"] = clock.seconds()
        clock = Clock()
        try:
            procs.stop().get(timeout=60)
        except Exception as error:
            found.failed["stop"] = f"{type(error).__name__}: {error}"[:200]
        if count == SPAWNS[0]:
            found["stop"] = clock.seconds()
    found.print()


if __name__ == "__main__":
    main()

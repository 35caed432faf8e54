"""Runs on Ray, which starts a cluster on the loopback for it."""

import os
import signal

import numpy as np
import ray

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


@ray.remote(num_cpus=0, max_restarts=0)
class Echo:
    def echo(self, value):
        return value

    def pid(self):
        return os.getpid()

    def take(self, data):
        return looked_at(memoryview(data))

    def hang(self):
        signal.pause()

    def ping(self, other):
        took = []
        for _ in range(CALLS):
            clock = Clock()
            ray.get(other.echo.remote(1))
            took.append(clock.seconds())
        return median_of(took)

    def pipeline(self, other):
        clock, done = Clock(), 0
        while clock.seconds() < RATE_SECONDS:
            ray.get([other.echo.remote(1) for _ in range(WINDOW)])
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
    ray.init(
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=2 << 30,
    )
    found = Found()
    idle = memory_below()
    for count in SPAWNS:
        clock = Clock()
        actors = [Echo.remote() for _ in range(count)]
        ray.get([one.echo.remote(1) for one in actors], timeout=180)
        found[f"spawn {count}"] = clock.seconds()
        work = lambda a=actors: ray.get([one.echo.remote(1) for one in a])  # noqa: E731
        found[f"gather {count}"] = median_of(timed(work, CALLS * 4 // count))
        if count == SPAWNS[-1]:
            found["memory"] = (memory_below() - idle) / count
            pid = ray.get(actors[1].pid.remote())
            waiting = actors[1].hang.remote()
            clock = Clock()
            os.kill(pid, signal.SIGKILL)
            try:
                ray.get(waiting, timeout=KILL_SECONDS)
            except ray.exceptions.GetTimeoutError:
                found.failed["kill"] = f"the call had not failed after {KILL_SECONDS:g} s"
            except ray.exceptions.RayError:
                found["kill"] = clock.seconds()
        else:
            found["call"] = ray.get(actors[1].ping.remote(actors[0]), timeout=60)
            found["pipeline"] = ray.get(actors[1].pipeline.remote(actors[0]), timeout=60)
            data = np.full(BUFFER_MIB << 20, 1, dtype=np.uint8)
            best = min(timed(lambda a=actors, d=data: ray.get(a[0].take.remote(d)), 3))
            found["buffer"] = (BUFFER_MIB << 20) / best
        clock = Clock()
        for one in actors:
            ray.kill(one)
        del actors, work
        if count == SPAWNS[0]:
            found["stop"] = clock.seconds()
    ray.shutdown()
    found.print()


if __name__ == "__main__":
    main()

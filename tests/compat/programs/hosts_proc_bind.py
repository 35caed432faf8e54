"""Procs bound to processors with `proc_bind`."""

import os

from monarch.actor import Actor, endpoint, this_host

from facts import raises, tried


class Bound(Actor):
    @endpoint
    def processors(self) -> list[int]:
        return sorted(os.sched_getaffinity(0))


def bound() -> bool:
    first = min(os.sched_getaffinity(0))
    procs = this_host().spawn_procs(proc_bind=[{"cpus": str(first)}])
    return procs.spawn("bound", Bound).processors.call_one().get(timeout=20) == [first]


def bound_apart() -> bool:
    allowed = sorted(os.sched_getaffinity(0))
    chosen = [allowed[0], allowed[-1]]
    procs = this_host().spawn_procs(per_host={"gpus": 2}, proc_bind=[{"cpus": str(one)} for one in chosen])
    found = procs.spawn("bound", Bound).processors.call().get(timeout=20)
    return [value for _, value in found.items()] == [[one] for one in chosen]


if __name__ == "__main__":
    tried("to one", bound)
    tried("each to its own", bound_apart)
    with raises("a list of the wrong length"):
        this_host().spawn_procs(per_host={"gpus": 2}, proc_bind=[{"cpus": "0"}])

"""Procs bound to processors with `proc_bind`."""

import os

from monarch.actor import Actor, endpoint, this_host

from facts import raises, tried

DIFFERENT = {
    "a list of the wrong length": [
        "ValueError",
        "NotImplementedError",
        "binding to processors is not there in this version",
    ],
    "to one": [True, "raises NotImplementedError", "binding to processors is not there in this version"],
}


class Bound(Actor):
    @endpoint
    def processors(self) -> list[int]:
        return sorted(os.sched_getaffinity(0))


def bound() -> list[int]:
    first = min(os.sched_getaffinity(0))
    procs = this_host().spawn_procs(proc_bind=[{"cpus": str(first)}])
    return procs.spawn("bound", Bound).processors.call_one().get(timeout=20) == [first]


if __name__ == "__main__":
    tried("to one", bound)
    with raises("a list of the wrong length"):
        this_host().spawn_procs(per_host={"gpus": 2}, proc_bind=[{"cpus": "0"}])

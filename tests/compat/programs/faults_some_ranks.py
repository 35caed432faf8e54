"""One rank of an actor mesh fails: the hook is told once, and the rest goes on."""

import time

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Failing(Actor):
    @endpoint
    def fail(self) -> None:
        raise ValueError("this rank")

    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    told = []
    monarch.actor.unhandled_fault_hook = told.append
    failing = this_host().spawn_procs(per_host={"gpus": 3}).spawn("failing", Failing)
    failing.get.call().get()
    failing.slice(gpus=1).fail.broadcast()
    until = time.monotonic() + 20
    while not told and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.5)
    fact("told", len(told))
    with raises("all of them"):
        failing.get.call().get(timeout=20)
    with raises("the failed rank"):
        failing.slice(gpus=1).get.call_one().get(timeout=20)
    fact("the others", list(failing.slice(gpus=slice(0, 3, 2)).get.call().get(timeout=20).values()))

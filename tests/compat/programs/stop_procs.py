"""Actors whose procs were stopped."""

import os

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import fact, lives, raises


class Fine(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    fine = procs.spawn("fine", Fine)
    pids = list(fine.pid.call().get().values())
    fact("live", [lives(pid) for pid in pids])
    procs.stop().get(timeout=20)
    with raises("a call"):
        fine.pid.call().get(timeout=20)

"""A proc with actors is killed: the hook is told, and calls fail."""

import os
import signal
import threading

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Process(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()


if __name__ == "__main__":
    told = threading.Event()
    monarch.actor.unhandled_fault_hook = lambda failure: told.set()
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    processes = procs.spawn("process", Process)
    pid = processes.slice(gpus=1).pid.call_one().get()
    os.kill(pid, signal.SIGKILL)
    with raises("a call"):
        processes.slice(gpus=1).pid.call_one().get(timeout=30)
    fact("told", told.wait(30))
    fact("the other rank", isinstance(processes.slice(gpus=0).pid.call_one().get(timeout=20), int))

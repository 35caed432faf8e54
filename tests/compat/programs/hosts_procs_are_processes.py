"""Each proc is a process of its own, `this_proc` is the client's, and the environment is inherited."""

import os

from monarch.actor import Actor, endpoint, this_host, this_proc

from facts import fact


class Process(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()

    @endpoint
    def variable(self, name: str) -> str | None:
        return os.environ.get(name)


if __name__ == "__main__":
    os.environ["COMPAT_SET_HERE"] = "yes"
    here = this_proc().spawn("here", Process)
    fact("this_proc is this process", here.pid.call_one().get() == os.getpid())
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    there = procs.spawn("there", Process)
    pids = set(there.pid.call().get().values())
    fact("processes", [len(pids), os.getpid() in pids])
    fact("another actor is in the same process", set(procs.spawn("more", Process).pid.call().get().values()) == pids)
    fact("environment", list(there.variable.call("COMPAT_SET_HERE").get().values()))

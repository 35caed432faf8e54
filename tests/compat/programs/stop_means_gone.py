"""When the stop of procs is done, the processes are gone."""

import os

from monarch.actor import Actor, endpoint, this_host

from facts import fact, lives


class Fine(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    pids = list(procs.spawn("fine", Fine).pid.call().get().values())
    procs.stop().get(timeout=20)
    fact("left", sum(lives(pid) for pid in pids))

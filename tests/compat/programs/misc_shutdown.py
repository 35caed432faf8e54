"""`shutdown_context` ends what the client has launched, once."""

import os
import time

from monarch.actor import Actor, endpoint, shutdown_context, this_host

from facts import fact, lives


class Fine(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()


if __name__ == "__main__":
    fact("without a client", shutdown_context().get(timeout=5))
    pids = list(this_host().spawn_procs(per_host={"gpus": 2}).spawn("fine", Fine).pid.call().get().values())
    fact("first", shutdown_context().get(timeout=20))
    until = time.monotonic() + 5
    while any(lives(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    fact("processes left", sum(lives(pid) for pid in pids))
    fact("again", shutdown_context().get(timeout=20))

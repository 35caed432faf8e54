"""What an actor has launched ends with the actor."""

import os
import time

from monarch.actor import Actor, endpoint, this_host

from facts import fact, lives


class Leaf(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()


class Root(Actor):
    @endpoint
    def launch(self) -> list[int]:
        self.leaves = this_host().spawn_procs(per_host={"gpus": 2}).spawn("leaf", Leaf)
        return list(self.leaves.pid.call().get(timeout=30).values())


if __name__ == "__main__":
    root = this_host().spawn_procs().spawn("root", Root)
    pids = root.launch.call_one().get(timeout=30)
    fact("live", [lives(pid) for pid in pids])
    root.stop().get(timeout=30)
    until = time.monotonic() + 5
    while any(lives(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    fact("left", sum(lives(pid) for pid in pids))

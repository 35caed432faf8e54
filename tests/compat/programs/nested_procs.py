"""An actor launches procs, and works with actors on them; the client gets their mesh."""

import os

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact


class Leaf(Actor):
    @endpoint
    def where(self) -> list[int]:
        return [current_rank().rank, os.getpid()]


class Root(Actor):
    @endpoint
    def launch(self, count: int) -> list[int]:
        self.procs = this_host().spawn_procs(per_host={"gpus": count})
        self.leaves = self.procs.spawn("leaf", Leaf)
        return [rank for rank, _ in self.leaves.where.call().get(timeout=30).values()]

    @endpoint
    def give(self) -> Leaf:
        return self.leaves

    @endpoint
    def pid(self) -> int:
        return os.getpid()


if __name__ == "__main__":
    root = this_host().spawn_procs().spawn("root", Root)
    fact("ranks", root.launch.call_one(2).get(timeout=30))
    leaves = root.give.call_one().get()
    found = list(leaves.where.call().get(timeout=20).values())
    pids = {pid for _, pid in found}
    fact("from the client", [rank for rank, _ in found])
    fact("processes of their own", [len(pids), root.pid.call_one().get() in pids, os.getpid() in pids])

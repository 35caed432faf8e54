"""Results as they come: `stream` gives each rank's answer when it is there, a channel any number of values from each."""

from __future__ import annotations

import time

from procession.actor import Actor, Channel, Port, current_rank, endpoint, this_host

RANKS, PARTS = 4, 3


class Sorter(Actor):
    @endpoint
    def after(self, seconds: float) -> int:
        """Its rank, after a time that is the shorter the higher the rank."""
        rank = current_rank()
        time.sleep(seconds * (rank.size("ranks") - rank.rank))
        return rank.rank

    @endpoint
    def parts(self, count: int, to: Port[tuple[int, int]]) -> None:
        """Sends so many values to the port, and returns when they are on their way."""
        for part in range(count):
            to.send((current_rank().rank, part))


def main() -> None:
    with this_host().spawn_procs(per_host={"ranks": RANKS}) as procs:
        sorters = procs.spawn("sorter", Sorter)
        sorters.initialized.get(timeout=30)
        for answer in sorters.after.stream(0.2):
            print("rank", answer.get(timeout=30))

        port, received = Channel[tuple[int, int]].open()
        sorters.parts.broadcast(PARTS, port)
        values = [received.recv().get(timeout=30) for _ in range(RANKS * PARTS)]
    for rank in range(RANKS):
        print(f"rank {rank} sent {[part for sender, part in values if sender == rank]}")


if __name__ == "__main__":
    main()

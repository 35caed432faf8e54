"""Actors in a ring, one in each process, pass a token on. Nobody waits for a whole round: who has passed it on is free."""

from __future__ import annotations

from procession.actor import Actor, Channel, Port, current_rank, endpoint, this_host

MEMBERS, ROUNDS = 4, 25


class Member(Actor):
    def __init__(self) -> None:
        self.seen = 0

    @endpoint
    def join(self, ring: Member) -> None:
        rank = current_rank()
        self.next = ring.slice(members=(rank.rank + 1) % rank.size("members"))

    @endpoint
    def take(self, token: int, done: Port[int]) -> None:
        """Passes `token` on until it has been everywhere as often as it should; then it goes to `done`."""
        self.seen += 1
        if token == 0:
            done.send(current_rank().rank)
        else:
            self.next.take.broadcast(token - 1, done)

    @endpoint
    def count(self) -> int:
        return self.seen


def main() -> None:
    with this_host().spawn_procs(per_host={"members": MEMBERS}) as procs:
        ring = procs.spawn("member", Member)
        ring.join.call(ring).get(timeout=30)
        port, received = Channel[int].open()
        ring.slice(members=0).take.broadcast(MEMBERS * ROUNDS - 1, port)
        print(f"the token ended at member {received.recv().get(timeout=30)}")
        for point, seen in ring.count.call().get(timeout=30).items():
            print(f"member {point['members']} had it {seen} times")


if __name__ == "__main__":
    main()

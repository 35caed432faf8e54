"""Two actors, each in a process of its own, send a ball to and fro; what one round costs is printed."""

from __future__ import annotations

import time

from procession.actor import Actor, endpoint, this_host

ROUNDS = 1000


class Player(Actor):
    """Sends back what it gets, one higher."""

    @endpoint
    async def hit(self, ball: int) -> int:
        return ball + 1

    @endpoint
    async def play(self, other: Player, rounds: int) -> tuple[int, float]:
        """The ball at the end, and the seconds that one round took."""
        ball, start = 0, time.perf_counter()
        while ball < 2 * rounds:
            ball = 1 + await other.hit.call_one(ball)
        return ball, (time.perf_counter() - start) / rounds


def main() -> None:
    with this_host().spawn_procs(per_host={"sides": 2}) as procs:
        players = procs.spawn("player", Player)
        left, right = players.slice(sides=0), players.slice(sides=1)
        ball, seconds = left.play.call_one(right, ROUNDS).get(timeout=60)
    print(f"the ball was hit {ball} times")
    print(f"{seconds * 1e6:.0f} us a round")


if __name__ == "__main__":
    main()

"""An async actor launches procs and awaits them; three levels deep."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Level(Actor):
    @endpoint
    async def down(self, depth: int) -> int:
        if depth == 0:
            return 1
        below = this_host().spawn_procs().spawn("level", Level)
        return 1 + await below.down.call_one(depth - 1)


if __name__ == "__main__":
    level = this_host().spawn_procs().spawn("level", Level)
    fact("levels", level.down.call_one(2).get(timeout=35))

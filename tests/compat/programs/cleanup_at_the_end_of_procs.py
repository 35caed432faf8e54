"""`__cleanup__` runs when the procs are stopped, too."""

from monarch.actor import Actor, Channel, Port, current_rank, endpoint, this_host

from facts import fact


class Tidy(Actor):
    def __init__(self, port: Port[str]) -> None:
        self.port = port
        self.rank = current_rank().rank

    @endpoint
    async def get(self) -> int:
        return 1

    async def __cleanup__(self, exc: Exception | None) -> None:
        self.port.send(f"{self.rank} {exc}")


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    port, log = Channel[str].open()
    procs.spawn("tidy", Tidy, port).get.call().get()
    fact("stop gives", procs.stop().get(timeout=20))
    fact("said", sorted(log.recv().get(timeout=10) for _ in range(2)))

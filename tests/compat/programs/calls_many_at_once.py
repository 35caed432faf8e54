"""Five hundred calls under way at the same time."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Counter(Actor):
    def __init__(self) -> None:
        self.count = 0

    @endpoint
    def add(self) -> int:
        self.count += 1
        return self.count


if __name__ == "__main__":
    counters = this_host().spawn_procs(per_host={"gpus": 2}).spawn("counter", Counter)
    futures = [counters.add.call() for _ in range(500)]
    fact("all values", [list(future.get().values()) for future in futures] == [[n, n] for n in range(1, 501)])

"""Several threads make calls, and wait for the same future."""

import time
from concurrent.futures import ThreadPoolExecutor

from monarch.actor import Actor, endpoint, this_host

from facts import fact

BETTER = {
    "all get the result of one future": [False, True, "any number of threads may wait for one future at the same time"],
}


class Counter(Actor):
    def __init__(self) -> None:
        self.count = 0

    @endpoint
    def add(self, x: int, seconds: float = 0) -> int:
        time.sleep(seconds)
        self.count += x
        return self.count


def wait(future) -> int | str:
    try:
        return future.get()
    except ValueError:
        return "ValueError"


if __name__ == "__main__":
    counter = this_host().spawn_procs().spawn("counter", Counter)
    counter.add.call_one(0).get()
    with ThreadPoolExecutor(4) as pool:
        shared = counter.add.call_one(1, seconds=0.3)
        fact("all get the result of one future", list(pool.map(wait, [shared] * 4)) == [1] * 4)
        results = list(pool.map(lambda _: counter.add.call_one(1).get(), range(40)))
    fact("calls from threads", sorted(results) == list(range(2, 42)))

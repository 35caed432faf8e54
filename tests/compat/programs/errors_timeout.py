"""A call that takes longer than its wait, and is waited for again; two futures of one slow actor."""

import time

from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Slow(Actor):
    @endpoint
    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


if __name__ == "__main__":
    slow = this_host().spawn_procs().spawn("slow", Slow)
    slow.sleep.call_one(0).get()
    first, second = slow.sleep.call_one(0.3), slow.sleep.call_one(0.1)
    with raises("the second waits for the first"):
        second.get(timeout=0.05)
    with raises("zero"):
        second.get(timeout=0)
    fact("second", second.get(timeout=10))
    fact("first", first.get(timeout=0))
    fact("exception", first.exception(timeout=1))

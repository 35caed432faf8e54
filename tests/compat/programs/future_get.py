"""A future gives its result any number of times, and a timeout leaves the call as it is."""

import time

from monarch.actor import Actor, Future, endpoint, this_host

from facts import fact, raises

DIFFERENT = {
    "no end of time": ["ValueError", "nothing", "infinity means without a limit, as None does"],
}


class Slow(Actor):
    @endpoint
    def sleep(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    @endpoint
    def fail(self) -> None:
        raise ValueError("failed")


if __name__ == "__main__":
    slow = this_host().spawn_procs().spawn("slow", Slow)
    slow.sleep.call_one(0).get()
    future = slow.sleep.call_one(0.4)
    fact("is a Future", isinstance(future, Future))
    with raises("too early"):
        future.get(timeout=0.02)
    fact("later", [future.get(), future.get(), future.result()])
    fact("no exception", future.exception())
    failed = slow.fail.call_one()
    with raises("raised"):
        failed.get()
    with raises("raised again"):
        failed.result()
    fact("exception()", type(failed.exception()).__name__)
    with raises("constructed"):
        Future()
    with raises("a negative timeout"):
        slow.sleep.call_one(0).get(timeout=-1)
    with raises("a timeout that is no number"):
        slow.sleep.call_one(0).get(timeout=float("nan"))
    with raises("no end of time"):
        slow.sleep.call_one(0).get(timeout=float("inf"))

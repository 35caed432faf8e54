"""What cannot be pickled is an error where it is sent, and the actor lives."""

import threading

from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Holder(Actor):
    @endpoint
    def take(self, value) -> str:
        return "taken"

    @endpoint
    def lock(self):
        return threading.Lock()


if __name__ == "__main__":
    holder = this_host().spawn_procs().spawn("holder", Holder)
    with raises("an argument"):
        holder.take.call_one(threading.Lock())
    fact("after that", holder.take.call_one(1).get())
    with raises("a result"):
        holder.lock.call_one().get(timeout=10)
    with raises("after the result", "taken"):
        raise KeyError(holder.take.call_one(1).get(timeout=10))

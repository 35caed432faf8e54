"""An argument that cannot be unpickled at the actor."""

import os

from monarch.actor import Actor, endpoint, this_host

from facts import fact, kind


class OnlyHere:
    def __reduce__(self):
        return load, (os.getpid(),)


def load(pid: int) -> OnlyHere:
    if pid != os.getpid():
        raise ValueError("only in its own process")
    return OnlyHere()


class Taking(Actor):
    @endpoint
    def take(self, value) -> str:
        return "taken"


if __name__ == "__main__":
    taking = this_host().spawn_procs().spawn("taking", Taking)
    try:
        fact("call", taking.take.call_one(OnlyHere()).get(timeout=5))
    except Exception as error:
        fact("call", [kind(error), "only in its own process" in str(error)])
    try:
        fact("after that", taking.take.call_one(1).get(timeout=5))
    except Exception as error:
        fact("after that", kind(error))

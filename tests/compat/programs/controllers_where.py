"""Where a controller lives, and what becomes of one whose `__init__` fails."""

import os

import monarch.actor
from monarch.actor import Actor, endpoint, get_or_spawn_controller, this_host

from facts import NAMED, fact, kind, raises

BETTER = {
    "a class that is no actor": ["ActorError", "ValueError", "refused where it is asked for, before anything is sent"],
    "wrong arguments": ["nothing", "ActorError", "arguments that nobody takes are an error"],
}


class Where(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()


class Broken(Actor):
    def __init__(self) -> None:
        raise ValueError("cannot be built")

    @endpoint
    def get(self) -> int:
        return 1


class Asking(Actor):
    @endpoint
    def pid(self) -> int:
        return get_or_spawn_controller("where-2", Where).get().pid.call_one().get()


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    fact("in the client", get_or_spawn_controller("where", Where).get().pid.call_one().get() == os.getpid())
    asking = this_host().spawn_procs().spawn("asking", Asking)
    fact("asked for by an actor", asking.pid.call_one().get(timeout=20) == os.getpid())
    with raises("a class that is no actor"):
        get_or_spawn_controller("bad", dict).get(timeout=20)
    with raises("wrong arguments"):
        get_or_spawn_controller("bad-2", Where, 1, 2, 3).get(timeout=20)
    try:
        get_or_spawn_controller("broken", Broken).get(timeout=20).get.call_one().get(timeout=20)
    except Exception as error:
        fact("a broken one is told of", kind(error) in NAMED)

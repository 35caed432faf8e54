"""An exception that cannot be pickled, and one that cannot be loaded again."""

import threading

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import fact, kind

BETTER = {
    "not loaded": [
        ["TypeError", False],
        ["ActorError", True],
        "an ActorError with a stand-in, as of any other exception",
    ],
    "not pickled": [
        ["SupervisionError", True],
        ["ActorError", True],
        "an ActorError with a stand-in, as of any other exception",
    ],
    "and after that": [["SupervisionError", True], 5, "the actor lives on"],
}


class Holding(Exception):
    def __init__(self) -> None:
        super().__init__("holding a lock")
        self.lock = threading.Lock()


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Failing(Actor):
    @endpoint
    def holding(self) -> None:
        raise Holding

    @endpoint
    def two(self) -> None:
        raise TwoArguments(1, 2)

    @endpoint
    def value(self) -> int:
        return 5


def what(call) -> list | int:
    try:
        return call.get(timeout=4)
    except Exception as error:
        return [kind(error), "holding a lock" in str(error) or "1 and 2" in str(error)]


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    two = this_host().spawn_procs().spawn("two", Failing)
    fact("not loaded", what(two.two.call_one()))
    fact("after that", what(two.value.call_one()))
    one = this_host().spawn_procs().spawn("one", Failing)
    fact("not pickled", what(one.holding.call_one()))
    fact("and after that", what(one.value.call_one()))

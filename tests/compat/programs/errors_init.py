"""An exception in `__init__` is what the first call raises."""

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import raises, tried

BETTER = {
    "others in the proc live": ["raises RuntimeError", 1, "an actor that could not be built leaves its proc as it was"],
}


class Broken(Actor):
    def __init__(self) -> None:
        raise ValueError("cannot be built")

    @endpoint
    def get(self) -> int:
        return 1


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    procs = this_host().spawn_procs()
    broken = procs.spawn("broken", Broken)
    with raises("a call", "cannot be built"):
        broken.get.call_one().get(timeout=20)
    with raises("again"):
        broken.get.call_one().get(timeout=20)
    tried("others in the proc live", lambda: procs.spawn("fine", Fine).get.call_one().get(timeout=20))

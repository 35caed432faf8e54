"""A hook that raises ends the client, as the default one does."""

import sys
import time

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import fact

BETTER = {
    "exit code": [-2, 7, "the code that the hook asks for"],
}

EXIT = True


class Failing(Actor):
    @endpoint
    def fail(self) -> None:
        raise ValueError("failed")


def hook(failure) -> None:
    fact("hook", "called")
    sys.exit(7)


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = hook
    this_host().spawn_procs().spawn("failing", Failing).fail.broadcast()
    for _ in range(200):
        time.sleep(0.1)
    fact("still here", True)

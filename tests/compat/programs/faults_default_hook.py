"""An actor that fails while nobody waits: the default hook ends the client with 1, and says why in stderr."""

import time

from monarch.actor import Actor, endpoint, this_host

from facts import fact

BETTER = {
    "exit code": [-2, 1, "the documented exit code, not that of an interrupt"],
}

EXIT = True
STDERR = ["nobody is told of this", "Failing"]


class Failing(Actor):
    @endpoint
    def fail(self) -> None:
        raise ValueError("nobody is told of this")


if __name__ == "__main__":
    failing = this_host().spawn_procs().spawn("failing", Failing)
    failing.fail.broadcast()
    fact("sent", True)
    for _ in range(200):
        time.sleep(0.1)
    fact("still here", True)

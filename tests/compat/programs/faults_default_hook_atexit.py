"""The default hook lets atexit functions run, and a finally block of the main thread."""

import atexit
import time

from monarch.actor import Actor, endpoint, this_host

from facts import fact

BETTER = {
    "exit code": [-2, 1, "the documented exit code, not that of an interrupt"],
}

EXIT = True


class Failing(Actor):
    @endpoint
    def fail(self) -> None:
        raise ValueError("failed")


if __name__ == "__main__":
    atexit.register(lambda: fact("atexit", "ran"))
    failing = this_host().spawn_procs().spawn("failing", Failing)
    failing.fail.broadcast()
    try:
        for _ in range(200):
            time.sleep(0.1)
    except BaseException as error:
        fact("in the main thread", type(error).__name__)
        raise
    finally:
        fact("finally", "ran")

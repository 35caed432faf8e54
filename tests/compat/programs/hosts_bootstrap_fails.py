"""A bootstrap function that raises."""

import monarch.actor
from monarch.actor import Actor, endpoint, this_host

from facts import fact, kind

DIFFERENT = {
    "a call": [
        "ActorError",
        "SupervisionError",
        "a proc that cannot be set up ends, and nobody is there who could answer",
    ],
}


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1


def setup() -> None:
    raise ValueError("cannot be set up")


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    procs = this_host().spawn_procs(bootstrap=setup)
    try:
        procs.initialized.get(timeout=20)
        fact("initialized", "nothing")
    except Exception as error:
        fact("initialized", isinstance(error, TimeoutError))
    try:
        fact("a call", procs.spawn("fine", Fine).get.call_one().get(timeout=20))
    except Exception as error:
        fact("a call", kind(error))

"""An exception that leaves an endpoint with an explicit response port fails its actor."""

import threading

import monarch.actor
from monarch.actor import Actor, Port, endpoint, this_host

from facts import fact, raises

BETTER = {
    "the call": [["SupervisionError", True], ["ActorError", True], "the caller is told what was raised"],
    "the next call": [
        "SupervisionError",
        "nothing",
        "the actor lives on, as after any other exception that a caller is told of",
    ],
    "told": [True, False, "nobody else has to be told"],
}


class Failing(Actor):
    @endpoint(explicit_response_port=True)
    def fail(self, port: Port[int]) -> None:
        raise ValueError("not sent to the port")

    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    told = threading.Event()
    monarch.actor.unhandled_fault_hook = lambda failure: told.set()
    failing = this_host().spawn_procs().spawn("failing", Failing)
    with raises("the call", "not sent to the port"):
        failing.fail.call_one().get(timeout=20)
    fact("told", told.wait(1))
    with raises("the next call"):
        failing.get.call_one().get(timeout=20)

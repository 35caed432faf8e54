"""An exception that leaves an endpoint with an explicit response port fails its actor."""

import threading

import monarch.actor
from monarch.actor import Actor, Port, endpoint, this_host

from facts import fact, raises

PENDING = "faults of actors are not told to their owners yet"
RECORDED = {"the call": ["SupervisionError", True], "the next call": "SupervisionError", "told": True}


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
    fact("told", told.wait(5))
    with raises("the next call"):
        failing.get.call_one().get(timeout=20)

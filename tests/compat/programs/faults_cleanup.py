"""`__cleanup__` of an actor that fails gets what ended it."""

import monarch.actor
from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact


class Failing(Actor):
    def __init__(self, port: Port[list]) -> None:
        self.port = port

    @endpoint
    def fail(self) -> None:
        raise ValueError("failed")

    def __cleanup__(self, exc: Exception | None) -> None:
        self.port.send([isinstance(exc, Exception), "failed" in str(exc)])


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    port, receiver = Channel[list].open()
    this_host().spawn_procs().spawn("failing", Failing, port).fail.broadcast()
    fact("cleanup got", receiver.recv().get(timeout=20))

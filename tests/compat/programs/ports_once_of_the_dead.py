"""A once port whose holder dies, and nobody can answer any more."""

import os

import monarch.actor
from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact, kind, lives

BETTER = {
    "receive": ["TimeoutError", "SupervisionError", "a once port errs when nobody can answer it any more"],
}


class Holder(Actor):
    @endpoint
    def hold(self, port: Port[int]) -> int:
        self.port = port
        return os.getpid()

    @endpoint
    def die(self) -> None:
        os._exit(3)


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    holder = this_host().spawn_procs().spawn("holder", Holder)
    port, receiver = Channel[int].open(once=True)
    pid = holder.hold.call_one(port).get(timeout=20)
    fact("lives", lives(pid))
    holder.die.broadcast()
    try:
        receiver.recv().get(timeout=4)
    except Exception as error:
        fact("receive", kind(error))

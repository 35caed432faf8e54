"""A once port takes one value."""

from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact, raises

DIFFERENT: dict = {}


class Sender(Actor):
    @endpoint
    def send(self, port: Port[str]) -> None:
        port.send("from there")


if __name__ == "__main__":
    port, receiver = Channel[str].open(once=True)
    port.send("one")
    fact("value", receiver.recv().get())
    with raises("a second send"):
        port.send("two")
    port, receiver = Channel[str].open(once=True)
    this_host().spawn_procs().spawn("sender", Sender).send.call_one(port).get()
    fact("passed to an actor", receiver.recv().get(timeout=10))

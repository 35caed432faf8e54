"""A channel carries values in order, in the same process and from an actor."""

from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact, raises


class Sender(Actor):
    @endpoint
    def send(self, port: Port[int], count: int) -> None:
        for number in range(count):
            port.send(number)


if __name__ == "__main__":
    port, receiver = Channel[str].open()
    port.send("a")
    port.send("b")
    fact("here", [receiver.recv().get(), receiver.recv().get()])
    with raises("nothing there"):
        receiver.recv().get(timeout=0.05)
    port, receiver = Channel[int].open()
    this_host().spawn_procs().spawn("sender", Sender).send.call_one(port, 100).get()
    fact("from an actor", [receiver.recv().get() for _ in range(100)] == list(range(100)))
    port.send(7)
    fact("the port is still good here", receiver.recv().get())

"""An explicit port can be kept, and answered in a later message."""

from monarch.actor import Actor, Port, endpoint, this_host

from facts import fact


class Gate(Actor):
    def __init__(self) -> None:
        self.waiting = []

    @endpoint(explicit_response_port=True)
    def wait(self, port: Port[str], name: str) -> None:
        self.waiting.append((port, name))

    @endpoint
    def open(self) -> int:
        for port, name in self.waiting:
            port.send(f"{name} may pass")
        count, self.waiting = len(self.waiting), []
        return count


if __name__ == "__main__":
    gate = this_host().spawn_procs().spawn("gate", Gate)
    first, second = gate.wait.call_one("a"), gate.wait.call_one("b")
    fact("opened for", gate.open.call_one().get())
    fact("second", second.get())
    fact("first", first.get())

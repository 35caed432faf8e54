"""`send` has the answers of all, or of a chosen one, sent to a port; without one it is a broadcast."""

from monarch.actor import Actor, Channel, Port, current_rank, endpoint, send, this_host

from facts import fact, raises


class Worker(Actor):
    def __init__(self) -> None:
        self.seen = []

    @endpoint
    def value(self, x: int, *, plus: int = 0) -> int:
        self.seen.append(x)
        return x + plus + current_rank().rank

    @endpoint
    def fail(self) -> int:
        raise ValueError("failed")

    @endpoint(explicit_response_port=True)
    def explicit(self, port: Port[int], x: int) -> None:
        port.send(x)

    @endpoint
    def all(self) -> list[int]:
        return self.seen


if __name__ == "__main__":
    workers = this_host().spawn_procs(per_host={"gpus": 2}).spawn("worker", Worker)
    port, receiver = Channel[int].open()
    send(workers.value, (1,), {"plus": 5}, port)
    fact("all", sorted(receiver.recv().get(timeout=10) for _ in range(2)))
    send(workers.value, (7,), {}, port, selection="choose")
    fact("choose", receiver.recv().get(timeout=10) in (7, 8))
    send(workers.explicit, (9,), {}, port)
    fact("of an explicit endpoint", [receiver.recv().get(timeout=10) for _ in range(2)])
    send(workers.value, (3,), {})
    fact("without a port", sorted(seen.count(3) for seen in workers.all.call().get().values()))
    send(workers.slice(gpus=0).fail, (), {}, port)
    with raises("an exception goes to the port"):
        receiver.recv().get(timeout=10)
    with raises("wrong arguments"):
        send(workers.value, (), {}, port)
    with raises("a selection that is none"):
        send(workers.value, (1,), {}, port, selection="some")
    once, one = Channel[int].open(once=True)
    send(workers.slice(gpus=1).value, (1,), {}, once)
    fact("to a once port", one.recv().get(timeout=10))

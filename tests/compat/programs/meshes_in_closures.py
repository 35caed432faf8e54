"""Meshes and ports in closures and objects that travel."""

from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact


class Leaf(Actor):
    @endpoint
    def value(self, x: int) -> int:
        return x + 1


class Runner(Actor):
    @endpoint
    def run(self, function) -> int:
        return function()


class Box:
    def __init__(self, leaf: Leaf, port: Port[int]) -> None:
        self.leaf = leaf
        self.port = port

    def __call__(self) -> int:
        value = self.leaf.value.call_one(10).get(timeout=20)
        self.port.send(value * 2)
        return value


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    leaf = procs.slice(gpus=0).spawn("leaf", Leaf)
    runner = procs.slice(gpus=1).spawn("runner", Runner)
    fact("a closure", runner.run.call_one(lambda: leaf.value.call_one(1).get(timeout=20)).get(timeout=20))
    port, receiver = Channel[int].open()
    fact("an object", runner.run.call_one(Box(leaf, port)).get(timeout=20))
    fact("its port", receiver.recv().get(timeout=10))
    fact("the mesh is still good here", leaf.value.call_one(5).get(timeout=10))

"""What the parts are, for `isinstance`."""

from monarch.actor import (
    Actor,
    Channel,
    Endpoint,
    Extent,
    Future,
    Point,
    Port,
    PortReceiver,
    ValueMesh,
    endpoint,
    this_host,
)

from facts import fact


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    fine = this_host().spawn_procs(per_host={"gpus": 1}).spawn("fine", Fine)
    port, receiver = Channel[int].open()
    fact("ports", [isinstance(port, Port), isinstance(receiver, PortReceiver)])
    future = fine.get.call()
    values = future.get()
    fact("future and values", [isinstance(future, Future), isinstance(values, ValueMesh)])
    fact("shapes", [isinstance(values.extent, Extent), all(isinstance(point, Point) for point, _ in values)])
    fact(
        "generic",
        [str(Endpoint[[int], int]) != "", str(Future[int]) != "", str(Port[int]) != "", str(ValueMesh[int]) != ""],
    )
    fact("name of an endpoint", fine.get is not None)

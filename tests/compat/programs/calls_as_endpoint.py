"""`as_endpoint` calls a method that is not marked, with or without a response port."""

from monarch.actor import Actor, Port, as_endpoint, endpoint, this_host

from facts import fact, raises


class Plain(Actor):
    def double(self, x: int) -> int:
        return 2 * x

    def answers(self, port: Port, x: int) -> None:
        port.send(x + 1)

    def bad(self) -> None:
        raise KeyError("bad")

    @endpoint
    def marked(self) -> None: ...


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    plain = procs.spawn("plain", Plain)
    fact("call", list(as_endpoint(plain.double).call(4).get().values()))
    fact("call_one of a slice", as_endpoint(plain.slice(gpus=0).double).call_one(5).get())
    explicit = as_endpoint(plain.answers, explicit_response_port=True)
    fact("with a port", list(explicit.call(1).get().values()))
    with raises("its exception"):
        as_endpoint(plain.bad).call().get()
    with raises("of an endpoint"):
        as_endpoint(plain.marked)
    with raises("of a function"):
        as_endpoint(print)

"""An endpoint with an explicit response port answers through it, and what it returns is dropped."""

from monarch.actor import Actor, Port, current_rank, endpoint, this_host

from facts import fact, raises


class Answering(Actor):
    @endpoint(explicit_response_port=True)
    def answer(self, port: Port[int], x: int) -> None:
        port.send(x + current_rank().rank)
        return 1234

    @endpoint(explicit_response_port=True)
    def refuse(self, port: Port[int], text: str = "no") -> None:
        port.exception(ValueError(text))


if __name__ == "__main__":
    actors = this_host().spawn_procs(per_host={"gpus": 2}).spawn("answering", Answering)
    fact("call", list(actors.answer.call(10).get().values()))
    fact("call_one", actors.slice(gpus=1).answer.call_one(x=20).get())
    fact("stream", sorted(future.get() for future in actors.answer.stream(30)))
    fact("choose", actors.answer.choose(40).get() in (40, 41))
    with raises("an exception"):
        actors.slice(gpus=0).refuse.call_one().get()
    with raises("wrong arguments"):
        actors.answer.call()
    fact("the actor lives", actors.slice(gpus=0).answer.call_one(0).get())

"""The response port of a broadcast takes answers, and nobody gets them."""

from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact


class Answering(Actor):
    @endpoint(explicit_response_port=True)
    def answer(self, port: Port[int], log: Port[str]) -> None:
        port.send(1)
        log.send("answered")

    @endpoint
    def get(self) -> int:
        return 5


if __name__ == "__main__":
    answering = this_host().spawn_procs().spawn("answering", Answering)
    log, lines = Channel[str].open()
    answering.answer.broadcast(log)
    fact("ran", lines.recv().get(timeout=10))
    fact("the actor lives", answering.get.call_one().get(timeout=10))

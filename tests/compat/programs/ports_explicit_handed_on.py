"""An actor hands its response port on to another one, which answers in its place."""

from monarch.actor import Actor, Port, endpoint, this_host

from facts import fact


class Back(Actor):
    @endpoint
    def finish(self, port: Port[str], text: str) -> None:
        port.send(f"back: {text}")


class Front(Actor):
    def __init__(self, back: Back) -> None:
        self.back = back

    @endpoint(explicit_response_port=True)
    def ask(self, port: Port[str], text: str) -> None:
        self.back.finish.broadcast(port, text)


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    back = procs.slice(gpus=0).spawn("back", Back)
    front = procs.slice(gpus=1).spawn("front", Front, back)
    fact("answer", front.ask.call_one("hello").get(timeout=20))

"""An exception of a sync endpoint is an ActorError at the caller, with the original and its traceback; the actor lives."""

from monarch.actor import Actor, ActorError, endpoint, this_host

from facts import fact, raises


class Failing(Actor):
    @endpoint
    def fail(self, text: str) -> None:
        self.deeper(text)

    def deeper(self, text: str) -> None:
        raise ValueError(text)

    @endpoint
    def value(self) -> int:
        return 5


if __name__ == "__main__":
    failing = this_host().spawn_procs().spawn("failing", Failing)
    try:
        failing.fail.call_one("wrong number").get()
    except ActorError as error:
        fact("exception", [type(error.exception).__name__, str(error.exception)])
        text = str(error)
        fact("text", [word in text for word in ("wrong number", "ValueError", "in deeper", "failing", "fail")])
        fact("is", isinstance(error, Exception))
    fact("after it", failing.value.call_one().get())
    with raises("of a call", "ValueError"):
        failing.fail.call("again").get()
    with raises("in a stream"):
        next(failing.fail.stream("s")).get()
    with raises("of choose"):
        failing.fail.choose("c").get()

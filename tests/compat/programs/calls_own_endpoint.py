"""An actor that uses its own endpoint as a method."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact

BETTER = {"self.value()": ["TypeError", "gives 4", "an endpoint stays an ordinary method on the actor itself"]}


class Selfish(Actor):
    @endpoint
    def value(self) -> int:
        return 4

    @endpoint
    def through_self(self) -> str:
        try:
            return f"gives {self.value()}"
        except TypeError as error:
            return type(error).__name__


if __name__ == "__main__":
    fact("self.value()", this_host().spawn_procs().spawn("selfish", Selfish).through_self.call_one().get())

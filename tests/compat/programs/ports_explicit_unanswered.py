"""An explicit port that its endpoint never answers, and one that is answered twice."""

from contextlib import suppress

import monarch.actor
from monarch.actor import Actor, Port, endpoint, this_host

from facts import fact, kind

BETTER = {
    "never answered": [
        "TimeoutError",
        "SupervisionError",
        "a response port that was let go of is an error at once, instead of a wait for ever",
    ],
}


class Silent(Actor):
    @endpoint(explicit_response_port=True)
    def forget(self, port: Port[int]) -> None:
        return None

    @endpoint(explicit_response_port=True)
    def twice(self, port: Port[int]) -> None:
        port.send(1)
        with suppress(Exception):
            port.send(2)

    @endpoint
    def get(self) -> int:
        return 5


def outcome(future) -> int | str:
    try:
        return future.get(timeout=3)
    except Exception as error:
        return kind(error)


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = lambda failure: None
    silent = this_host().spawn_procs().spawn("silent", Silent)
    fact("never answered", outcome(silent.forget.call_one()))
    fact("answered twice", outcome(silent.twice.call_one()))
    fact("the actor lives", outcome(silent.get.call_one()))

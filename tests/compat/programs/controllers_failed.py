"""A controller that has failed, asked for again."""

import time

import monarch.actor
from monarch.actor import Actor, endpoint, get_or_spawn_controller

from facts import fact, kind, raises, tried

BETTER = {
    "another one": ["raises ActorError", 1, "a failed controller leaves the others, and those to come, as they were"],
}


class Failing(Actor):
    @endpoint
    def fail(self) -> None:
        raise ValueError("of the controller")

    @endpoint
    def get(self) -> int:
        return 1


def asked() -> list:
    try:
        failing = get_or_spawn_controller("failing", Failing).get(timeout=10)
    except Exception as error:
        return [kind(error), "of the controller" in str(error)]
    try:
        return [failing.get.call_one().get(timeout=10)]
    except Exception as error:
        return [kind(error)]


if __name__ == "__main__":
    told = []
    monarch.actor.unhandled_fault_hook = told.append
    failing = get_or_spawn_controller("failing", Failing).get()
    fact("before", failing.get.call_one().get(timeout=10))
    failing.fail.broadcast()
    with raises("a call"):
        failing.get.call_one().get(timeout=10)
    until = time.monotonic() + 10
    while (again := asked())[0] != "ActorError" and time.monotonic() < until:
        time.sleep(0.1)
    fact("asked for again", again)
    tried(
        "another one", lambda: get_or_spawn_controller("other", Failing).get(timeout=10).get.call_one().get(timeout=10)
    )
    fact("the hook was told", len(told))

"""An actor that ends itself with a failure: `abort` of its instance."""

import threading

import monarch.actor
from monarch.actor import Actor, context, endpoint, this_host

from facts import fact, raises

DIFFERENT = {
    "report": [
        [True],
        [False],
        "an instance has no abort and no kill: an actor that raises where nobody is told ends in the same way",
    ],
}


class Giving(Actor):
    @endpoint
    def give_up(self) -> str:
        context().actor_instance.abort("gives up")
        return "answered"

    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    told = threading.Event()
    reports = []

    def hook(failure) -> None:
        reports.append(failure.report())
        told.set()

    monarch.actor.unhandled_fault_hook = hook
    giving = this_host().spawn_procs().spawn("giving", Giving)
    giving.give_up.broadcast()
    fact("told", told.wait(10))
    fact("report", ["gives up" in report and "AttributeError" not in report for report in reports[:1]])
    with raises("a call"):
        giving.get.call_one().get(timeout=10)

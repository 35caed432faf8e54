"""A hook of the program's own gets the failure, and the program goes on."""

import threading

import monarch.actor
from monarch.actor import Actor, MeshFailure, endpoint, this_host

from facts import fact, raises


class Failing(Actor):
    @endpoint
    def fail(self) -> None:
        raise ValueError("told to the hook")

    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    seen = []
    told = threading.Event()

    def hook(failure: MeshFailure) -> None:
        seen.append(failure)
        told.set()

    monarch.actor.unhandled_fault_hook = hook
    procs = this_host().spawn_procs()
    failing = procs.spawn("failing", Failing)
    failing.fail.broadcast()
    fact("told", told.wait(20))
    fact("type", type(seen[0]).__name__)
    report = seen[0].report()
    fact("report", [word in report for word in ("told to the hook", "failing", "Failing")])
    fact("str", "told to the hook" in str(seen[0]))
    fact("mesh name", "failing" in (seen[0].mesh_name or ""))
    with raises("a call to the failed actor", "told to the hook"):
        failing.get.call_one().get(timeout=20)

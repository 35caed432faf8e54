"""An actor that ends itself with a failure: `abort` and `kill` of its instance."""

import threading

import monarch.actor
from monarch.actor import Actor, context, endpoint, this_host

from facts import fact, raises, tried


class Giving(Actor):
    @endpoint
    def give_up(self) -> str:
        context().actor_instance.abort("gives up")
        return "answered"

    @endpoint
    def be_killed(self) -> str:
        context().actor_instance.kill("was hopeless")
        return "answered"

    @endpoint
    def without_a_reason(self) -> None:
        context().actor_instance.abort()

    @endpoint
    def get(self) -> int:
        return 1


class Awaiting(Actor):
    @endpoint
    async def give_up(self) -> str:
        context().actor_instance.abort("gives up")
        return "answered"

    @endpoint
    async def get(self) -> int:
        return 1


reports: dict[str, str] = {}
told = {name: threading.Event() for name in ("aborting", "killed", "reasonless", "awaiting", "beside")}


def hook(failure) -> None:
    report = failure.report()
    for name, event in told.items():
        if name in report and not event.is_set():
            reports[name] = report
            event.set()


def end(name: str, endpoint, actor, reason: str) -> None:
    endpoint.broadcast()
    fact(f"{name}: told", told[name].wait(10))
    fact(f"{name}: report", reason in reports[name] and "AttributeError" not in reports[name])
    with raises(f"{name}: a call"):
        actor.get.call_one().get(timeout=10)


if __name__ == "__main__":
    monarch.actor.unhandled_fault_hook = hook
    giving = this_host().spawn_procs().spawn("aborting", Giving)
    end("aborting", giving.give_up, giving, "gives up")
    giving = this_host().spawn_procs().spawn("killed", Giving)
    end("killed", giving.be_killed, giving, "was hopeless")
    giving = this_host().spawn_procs().spawn("reasonless", Giving)
    end("reasonless", giving.without_a_reason, giving, "")
    awaiting = this_host().spawn_procs().spawn("awaiting", Awaiting)
    end("awaiting", awaiting.give_up, awaiting, "gives up")
    procs = this_host().spawn_procs()
    giving, other = procs.spawn("beside", Giving), procs.spawn("other", Giving)
    tried("before", lambda: other.get.call_one().get(timeout=10))
    end("beside", giving.give_up, giving, "gives up")
    tried("others live", lambda: other.get.call_one().get(timeout=10))

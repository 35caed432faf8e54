"""What callers hear whose calls are under way, or come later, when an actor aborts."""

import threading

import monarch.actor
from monarch.actor import Actor, Channel, Port, context, endpoint, this_host

from facts import fact, tried


class Giving(Actor):
    def __init__(self, seen: Port) -> None:
        self.seen = seen

    @endpoint
    def give_up(self) -> str:
        context().actor_instance.abort("gives up")
        return "answered"

    @endpoint
    def from_a_thread(self) -> str:
        instance = context().actor_instance
        thread = threading.Thread(target=instance.abort, args=("a thread gives up",))
        thread.start()
        thread.join()
        return "answered"

    @endpoint
    def get(self) -> int:
        self.seen.send("handled")
        return 1

    def __cleanup__(self, exc: Exception | None) -> None:
        self.seen.send("cleaned up" if exc is None else "cleaned up with an exception")


class Owner(Actor):
    def __init__(self, seen: Port) -> None:
        self.seen = seen

    @endpoint
    def own(self) -> None:
        self.giving = monarch.actor.this_proc().spawn("owned", Giving, self.seen)
        self.giving.give_up.broadcast()

    @endpoint
    def value(self) -> int:
        return 1

    def __supervise__(self, failure) -> bool:
        self.seen.send("supervised" if "gives up" in str(failure) else str(failure))
        return True


if __name__ == "__main__":
    told = threading.Event()
    monarch.actor.unhandled_fault_hook = lambda failure: told.set()
    procs = this_host().spawn_procs()
    port, receiver = Channel.open()
    giving = procs.spawn("giving", Giving, port)
    tried("the call itself", lambda: giving.give_up.call_one().get(timeout=10))
    fact("told", told.wait(10))
    tried("a later one", lambda: giving.get.call_one().get(timeout=10))
    fact("cleaned up", receiver.recv().get(timeout=10))
    told.clear()
    procs = this_host().spawn_procs()
    giving = procs.spawn("giving", Giving, port)
    tried("from a thread", lambda: giving.from_a_thread.call_one().get(timeout=10))
    fact("told of that", told.wait(10))
    fact("cleaned up again", receiver.recv().get(timeout=10))
    owner = this_host().spawn_procs().spawn("owner", Owner, port)
    owner.own.call_one().get(timeout=10)
    fact("the owner", sorted(receiver.recv().get(timeout=10) for _ in range(2)))
    tried("the owner lives", lambda: owner.value.call_one().get(timeout=10))

"""Actors and procs that are stopped twice."""

from monarch.actor import Actor, endpoint, this_host

from facts import tried


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1


if __name__ == "__main__":
    procs = this_host().spawn_procs()
    fine = procs.spawn("fine", Fine)
    fine.get.call_one().get()
    tried("actors", lambda: bool(fine.stop().get(timeout=20)))
    tried("actors again", lambda: bool(fine.stop().get(timeout=20)))
    tried("procs", lambda: procs.stop().get(timeout=20))
    tried("procs again", lambda: procs.stop("again").get(timeout=20))

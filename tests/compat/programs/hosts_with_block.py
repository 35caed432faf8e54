"""Procs in a plain `with` block."""

from monarch.actor import Actor, endpoint, this_host

from facts import tried

BETTER = {
    "with": ["raises TypeError", 1, "there is a plain `with` too"],
}


class Fine(Actor):
    @endpoint
    def get(self) -> int:
        return 1


def inside() -> int:
    with this_host().spawn_procs() as procs:
        return procs.spawn("fine", Fine).get.call_one().get(timeout=20)


if __name__ == "__main__":
    tried("with", inside)

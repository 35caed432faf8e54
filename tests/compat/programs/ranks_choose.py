"""The rank of a message that went to one chosen actor of a mesh."""

from monarch.actor import Actor, current_rank, current_size, endpoint, this_host

from facts import fact


class Where(Actor):
    @endpoint
    def message(self) -> list:
        return [dict(current_rank()), current_size()]


if __name__ == "__main__":
    where = this_host().spawn_procs(per_host={"a": 2}).spawn("where", Where)
    seen = [where.message.choose().get() for _ in range(16)]
    fact("messages", sorted({str(one) for one in seen}))

"""A ranked receiver gives the rank that answered with each value."""

from monarch.actor import Actor, Channel, current_rank, endpoint, send, this_host

from facts import fact


class Ranked(Actor):
    @endpoint
    def value(self, x: int) -> int:
        return x * 10 + current_rank().rank


if __name__ == "__main__":
    actors = this_host().spawn_procs(per_host={"gpus": 3}).spawn("ranked", Ranked)
    port, receiver = Channel[int].open()
    ranked = receiver.ranked()
    send(actors.value, (4,), {}, port)
    fact("ranks and values", sorted(list(ranked.recv().get(timeout=10)) for _ in range(3)))
    port, ranked = Channel[int].open_ranked()
    send(actors.slice(gpus=slice(1, 3)).value, (5,), {}, port)
    fact("of a slice", sorted(list(ranked.recv().get(timeout=10)) for _ in range(2)))

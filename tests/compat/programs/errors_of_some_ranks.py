"""One rank of several fails."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact, kind, raises


class Partly(Actor):
    @endpoint
    def work(self, bad: int) -> int:
        if current_rank().rank == bad:
            raise ValueError("this one")
        return current_rank().rank


if __name__ == "__main__":
    partly = this_host().spawn_procs(per_host={"gpus": 3}).spawn("partly", Partly)
    with raises("call", "this one"):
        partly.work.call(1).get()
    results = []
    for future in partly.work.stream(2):
        try:
            results.append(str(future.get()))
        except Exception as error:
            results.append(kind(error))
    fact("stream", sorted(results))
    fact("nobody is bad", list(partly.work.call(99).get().values()))
    fact("a slice without it", list(partly.slice(gpus=slice(0, 2)).work.call(2).get().values()))

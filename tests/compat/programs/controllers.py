"""`get_or_spawn_controller` gives one actor for a name, from the client and from actors."""

from monarch.actor import Actor, endpoint, get_or_spawn_controller, this_host

from facts import fact


class Counter(Actor):
    def __init__(self, start: int) -> None:
        self.count = start

    @endpoint
    def add(self) -> int:
        self.count += 1
        return self.count


class User(Actor):
    @endpoint
    def use(self, start: int) -> int:
        return get_or_spawn_controller("counter", Counter, start).get().add.call_one().get()


class AsyncUser(Actor):
    @endpoint
    async def use(self, start: int) -> int:
        counter = await get_or_spawn_controller("counter", Counter, start)
        return await counter.add.call_one()


if __name__ == "__main__":
    counter = get_or_spawn_controller("counter", Counter, 10).get()
    fact("first", counter.add.call_one().get())
    again = get_or_spawn_controller("counter", Counter, 99).get()
    fact("the same", again.add.call_one().get())
    fact("another name", get_or_spawn_controller("other", Counter, start=50).get().add.call_one().get())
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    fact("from actors", sorted(procs.spawn("user", User).use.call(7).get(timeout=20).values()))
    fact("from async actors", sorted(procs.spawn("async", AsyncUser).use.call(7).get(timeout=20).values()))
    fact("in the end", counter.add.call_one().get())

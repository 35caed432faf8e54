"""The context inside of endpoints, `__init__` and tasks."""

import asyncio

from monarch.actor import Actor, concurrent_endpoint, context, current_actor_name, current_rank, endpoint, this_host

from facts import fact


class Seer(Actor):
    def __init__(self) -> None:
        self.born = [current_rank().rank, context().actor_instance.name]

    @endpoint
    async def instance(self) -> list:
        one = context().actor_instance
        return [one.name, one.class_name.rpartition(".")[2], one.rank.rank, one.proc.size()]

    @endpoint
    async def birth(self) -> list:
        return self.born

    @endpoint
    async def ids(self) -> list[bool]:
        one = context().actor_instance
        return [current_actor_name() == str(one.actor_id), "seer" in current_actor_name(), bool(str(one.proc_id))]

    @endpoint
    async def in_a_task(self) -> int:
        async def ask() -> int:
            return current_rank().rank

        return await asyncio.create_task(ask())

    @concurrent_endpoint
    async def in_between(self) -> int:
        await asyncio.sleep(0.01)
        return current_rank().rank


if __name__ == "__main__":
    seers = this_host().spawn_procs(per_host={"gpus": 2}).spawn("seer", Seer)
    fact("instance", list(seers.instance.call().get().values()))
    fact("in __init__", list(seers.birth.call().get().values()))
    fact("ids", list(seers.ids.call().get().values()))
    fact("in a task", list(seers.in_a_task.call().get().values()))
    fact("in a concurrent endpoint", list(seers.in_between.call().get().values()))
    fact("of a slice", seers.slice(gpus=1).in_between.call_one().get())

"""Hooks whose kind does not fit that of the endpoints are refused at the spawn."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises

BETTER = {
    "an async actor, a sync __cleanup__": [
        ["ValueError", True],
        "nothing",
        "it is simply called, and blocks the loop of its own actor alone",
    ],
}


class SyncWithAsyncCleanup(Actor):
    @endpoint
    def get(self) -> int:
        return 1

    async def __cleanup__(self, exc: Exception | None) -> None: ...


class AsyncWithSyncCleanup(Actor):
    @endpoint
    async def get(self) -> int:
        return 1

    def __cleanup__(self, exc: Exception | None) -> None: ...


class SyncWithAsyncSupervise(Actor):
    @endpoint
    def get(self) -> int:
        return 1

    async def __supervise__(self, failure) -> bool:
        return True


class AsyncWithSyncSupervise(Actor):
    @endpoint
    async def get(self) -> int:
        return 1

    def __supervise__(self, failure) -> bool:
        return True


class SyncWithBoth(Actor):
    @endpoint
    def get(self) -> int:
        return 1

    def __supervise__(self, failure) -> bool:
        return True

    def __cleanup__(self, exc: Exception | None) -> None: ...


if __name__ == "__main__":
    procs = this_host().spawn_procs()
    with raises("a sync actor, an async __cleanup__", "has sync endpoints, but an async __cleanup__"):
        procs.spawn("a", SyncWithAsyncCleanup)
    with raises("an async actor, a sync __cleanup__", "has async endpoints, but a synchronous __cleanup__"):
        procs.spawn("b", AsyncWithSyncCleanup)
    with raises("a sync actor, an async __supervise__", "has sync endpoints, but an async __supervise__"):
        procs.spawn("c", SyncWithAsyncSupervise)
    fact("an async actor, a sync __supervise__", procs.spawn("d", AsyncWithSyncSupervise).get.call_one().get())
    fact("a sync actor with sync ones", procs.spawn("e", SyncWithBoth).get.call_one().get())

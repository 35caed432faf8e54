"""Actors whose endpoints are partly sync and partly async are refused at the spawn."""

from monarch.actor import Actor, concurrent_endpoint, endpoint, this_host

from facts import fact, raises


class Mixed(Actor):
    @endpoint
    def one(self) -> None: ...

    @endpoint
    async def two(self) -> None: ...


class MixedByInheritance(Actor):
    @endpoint
    def one(self) -> int:
        return 1


class Heir(MixedByInheritance):
    @concurrent_endpoint
    async def two(self) -> None: ...


class NoEndpoints(Actor):
    pass


if __name__ == "__main__":
    procs = this_host().spawn_procs()
    with raises("mixed", "mixes both async and sync endpoints", "one", "two"):
        procs.spawn("mixed", Mixed)
    with raises("mixed by inheritance", "mixes both async and sync endpoints"):
        procs.spawn("heir", Heir)
    fact("the base alone", procs.spawn("base", MixedByInheritance).one.call_one().get())
    fact("without endpoints", procs.spawn("none", NoEndpoints).initialized.get(timeout=20) in (True, None))

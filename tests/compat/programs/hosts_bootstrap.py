"""A bootstrap function, sync or async, runs in every proc before its actors."""

import asyncio
import os

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Reader(Actor):
    def __init__(self) -> None:
        self.seen = os.environ.get("COMPAT_BOOT")

    @endpoint
    def get(self) -> str | None:
        return self.seen


def setup() -> None:
    os.environ["COMPAT_BOOT"] = "sync"


async def setup_async() -> None:
    await asyncio.sleep(0)
    os.environ["COMPAT_BOOT"] = "async"


if __name__ == "__main__":
    for boot in (setup, setup_async, lambda: os.environ.update(COMPAT_BOOT="lambda")):
        procs = this_host().spawn_procs(per_host={"gpus": 2}, bootstrap=boot)
        fact(boot.__name__, list(procs.spawn("reader", Reader).get.call().get().values()))
        procs.stop().get()
    fact("not here", os.environ.get("COMPAT_BOOT"))

"""`get()` where an event loop runs."""

import asyncio
import warnings

from monarch.actor import Actor, endpoint, this_host

from facts import fact, kind

DIFFERENT = {
    "get()": [
        3,
        "RuntimeError",
        "what would block the event loop of its thread is refused, and says what to do, instead of a warning",
    ],
}


class Quick(Actor):
    @endpoint
    def value(self) -> int:
        return 3


async def main(quick: Quick) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fact("get()", quick.value.call_one().get(timeout=10))
        except Exception as error:
            fact("get()", kind(error))


if __name__ == "__main__":
    asyncio.run(main(this_host().spawn_procs().spawn("quick", Quick)))

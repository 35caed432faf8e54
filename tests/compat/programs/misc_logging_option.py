"""`logging_option` of procs can be awaited."""

import asyncio
import warnings

from monarch.actor import this_host

from facts import fact


async def main() -> None:
    procs = this_host().spawn_procs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fact("gives", await procs.logging_option(stream_to_client=True))
        fact("with a window", await procs.logging_option(stream_to_client=True, aggregate_window_sec=1))
        fact("off", await procs.logging_option())
    fact("hosts", await this_host().initialized)


if __name__ == "__main__":
    asyncio.run(main())

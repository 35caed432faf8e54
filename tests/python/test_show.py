"""Output that is shown as it comes."""

import asyncio
import io
import sys

import pytest

from procession.actor import Actor, current_rank, endpoint, this_host
from procession.errors import InvalidArgument, Unsupported

SHOWN = """
import asyncio
from procession.actor import Actor, current_rank, endpoint, this_host

class Talker(Actor):
    @endpoint
    def talk(self, text):
        print(text, current_rank().rank)

async def main():
    procs = this_host().spawn_procs({"gpus": 2})
    talkers = procs.spawn("talker", Talker)
    await talkers.talk.call("before")
    await procs.logging_option(stream_to_client=True)
    await talkers.talk.call("during")
    if WAIT:
        await procs.stop()

asyncio.run(main())
"""


class Talker(Actor):
    @endpoint
    def talk(self, text):
        print(text, current_rank().rank)

    @endpoint
    def say(self, text):
        print(text)


@pytest.mark.parametrize("wait", ["True", "False"])
def test_what_procs_write_is_shown_with_the_rank_also_what_they_wrote_last(script, wait):
    shown = script(SHOWN.replace("WAIT", wait)).stdout.splitlines()
    assert sorted(shown) == sorted(f"[{rank}] {text} {rank}" for text in ("before", "during") for rank in (0, 1))


def test_it_can_be_ended_and_begun_again(monkeypatch):
    # Not what pytest captures, which forgets what is written while it is read.
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)

    async def shows(line):
        while line not in shown.getvalue():
            await asyncio.sleep(0.005)

    async def main():
        async with this_host().spawn_procs() as procs:
            talker = procs.spawn("talker", Talker)
            lines = aiter(procs.logs(follow=True))

            async def say(text):
                await talker.talk.call(text)
                assert text in await anext(lines)

            await procs.logging_option(stream_to_client=True)
            await procs.logging_option(stream_to_client=True)
            await say("one")
            await shows("[0] one 0\n")
            await procs.logging_option(stream_to_client=False)
            await say("two")
            await procs.logging_option(stream_to_client=True, aggregate_window_sec=1)
            await say("three")
            await shows("[0] three 0\n")

    asyncio.run(main())
    assert shown.getvalue().count("one") == 1


class Written(list):
    """What is written, piece by piece."""

    write = list.append

    def flush(self):
        pass


def test_lines_are_written_whole_and_put_together_from_the_call_on_that_says_so(monkeypatch):
    written = Written()
    monkeypatch.setattr(sys, "stdout", written)

    async def shows(*lines):
        while not written[-len(lines) :] or sorted(written[-len(lines) :]) != sorted(lines):
            await asyncio.sleep(0.005)

    async def main():
        async with this_host().spawn_procs({"gpus": 2}) as procs:
            say = procs.spawn("talker", Talker).say
            for window, shown in (
                (None, ["[0] {}\n", "[1] {}\n"]),
                (1, ["[0-1] {}\n"]),
                (None, ["[0] {}\n", "[1] {}\n"]),
            ):
                await procs.logging_option(stream_to_client=True, aggregate_window_sec=window)
                await say.call(f"with {window}")
                await shows(*(line.format(f"with {window}") for line in shown))

    asyncio.run(main())
    assert len(written) == 5


def test_options_that_mean_nothing_are_refused():
    with this_host().spawn_procs() as procs:
        for options, error in (
            ({"aggregate_window_sec": 3}, InvalidArgument),
            ({"stream_to_client": "yes"}, InvalidArgument),
            ({"stream_to_client": True, "aggregate_window_sec": -1}, InvalidArgument),
            ({"stream_to_client": True, "level": 10}, Unsupported),
        ):
            with pytest.raises(error):
                asyncio.run(procs.logging_option(**options))


def test_hosts_are_there():
    assert this_host().initialized.get(timeout=0) is True

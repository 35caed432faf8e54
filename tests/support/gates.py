"""Actors that are busy until they are let go, and what lets them go."""

import asyncio
import os
import threading
from contextlib import contextmanager

import pytest

from procession.actor import Actor, concurrent_endpoint, context, current_rank, endpoint

GO = b"go"


@pytest.fixture
def gates(tmp_path):
    """A path for each of four ranks, at which a `Gate` waits."""
    paths = [str(tmp_path / f"gate{rank}") for rank in range(4)]
    for path in paths:
        os.mkfifo(path)
    return paths


@contextmanager
def opened(*gates):
    """Whoever waits at these gates, or comes there meanwhile, passes."""
    # Both ways: so that neither this nor who comes waits for anybody.
    files = [os.open(gate, os.O_RDWR) for gate in gates]
    for file in files:
        os.write(file, GO * 1000)
    try:
        yield
    finally:
        for file in files:
            os.close(file)


def pass_through(gate):
    """Waits until the gate is opened, and leaves it open for others."""
    file = os.open(gate, os.O_RDONLY)
    os.read(file, len(GO))
    os.close(file)


class Gate(Actor):
    """A sync actor that waits at its rank's gate."""

    def __init__(self):
        self.seen = []

    @endpoint
    def wait(self, gates):
        pass_through(gates[current_rank().rank])
        return current_rank().rank

    @endpoint
    def until_cancelled(self, port, gate):
        """Says what `context().cancelled` is at the beginning, and what once it has changed."""
        port.send(context().cancelled)
        pass_through(gate)
        while not context().cancelled:
            threading.Event().wait(0.001)
        port.send(context().cancelled)
        return "too late"

    @endpoint
    def note(self, item):
        self.seen.append(item)

    @endpoint
    def get_seen(self):
        return self.seen

    @endpoint
    def ping(self):
        return "pong"

    @endpoint
    def after(self):
        return context().cancelled


class Patient(Actor):
    """An async actor that says what becomes of it while it waits for ever."""

    def __init__(self):
        self.seen = []
        self.kept = []
        self.open = asyncio.Event()

    async def _hold(self, port, then):
        port.send("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then == "clean up":
                await asyncio.sleep(0)
            port.send("cancelled")
            if then == "go on":
                return "went on"
            if then == "fail":
                raise ValueError("while cleaning up") from None
            raise

    @endpoint
    async def hold(self, port, then=None):
        return await self._hold(port, then)

    @concurrent_endpoint
    async def hold_beside(self, port, then=None):
        return await self._hold(port, then)

    @concurrent_endpoint
    async def wait(self, port):
        port.send("begun")
        await self.open.wait()
        return "opened"

    @concurrent_endpoint
    async def turns(self, count):
        """Answers after so many turns of the loop; with a longer pause for each that is a multiple of ten."""
        for turn in range(count):
            await asyncio.sleep(0 if turn % 10 else 0.001)
        return count

    @endpoint
    async def let_go(self):
        self.open.set()

    @endpoint(explicit_response_port=True)
    async def keep(self, port):
        self.kept.append(port)

    @endpoint
    async def kept_cancelled(self):
        return [port.cancelled for port in self.kept]

    @endpoint
    async def answer_kept(self, value):
        self.kept.pop().send(value)

    @endpoint(explicit_response_port=True)
    async def pass_on(self, port, other):
        await other.take.call_one(port)

    @endpoint
    async def take(self, port):
        self.kept.append(port)

    @endpoint
    async def note(self, item):
        self.seen.append(item)

    @endpoint
    async def get_seen(self):
        return self.seen

    @endpoint
    async def ping(self):
        return "pong"

    async def __cleanup__(self, exc):
        self.kept.clear()

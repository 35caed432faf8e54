"""The actors and launchers that are measured."""

from __future__ import annotations

import os
import pickle
import signal
import socket
from typing import Any

from bench.timing import p50, rate
from procession.actor import Actor, endpoint
from procession.launch import LaunchOptions, Port, ProcExitResult, ProcLauncher, supervise

WINDOW = 500
"""How many calls are under way where they are not awaited one by one."""


class Echo(Actor):
    def __init__(self) -> None:
        self.noted = 0

    @endpoint
    def echo(self, value: int) -> int:
        return value

    @endpoint
    def note(self, value: int) -> None:
        self.noted += 1

    @endpoint
    def count(self) -> int:
        return self.noted

    @endpoint
    def take(self, data: Any) -> int:
        """Looks at one byte of each page, so that whatever maps lazily is made to read."""
        view = memoryview(data.data if isinstance(data, Large) else data)
        sum(view[::4096])
        return view.nbytes

    @endpoint
    def pid(self) -> int:
        return os.getpid()

    @endpoint
    def hang(self) -> None:
        signal.pause()

    @endpoint
    def connect(self, path: str) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(path)

    @endpoint
    def call_other(self, other: Echo, times: int) -> float:
        return p50(lambda: other.echo.call_one(1).get(), times)

    @endpoint
    def pipeline_to(self, other: Echo) -> float:
        def batch() -> int:
            for future in [other.echo.call_one(1) for _ in range(WINDOW)]:
                future.get()
            return WINDOW

        return rate(batch)

    @endpoint
    def cast_to(self, other: Echo) -> float:
        def batch() -> int:
            for _ in range(WINDOW):
                other.note.broadcast(1)
            return WINDOW

        return rate(batch, lambda: other.count.call_one().get())


class Plain(ProcLauncher):
    """A launcher that does what the native one does, so that what it adds is the way through it."""

    def __init__(self, params: dict | None = None) -> None:
        super().__init__(params)
        self.procs: dict = {}

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        self.procs[proc_id] = await supervise(opts)
        exit_port.send(await self.procs[proc_id].wait())

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        await self.procs[proc_id].terminate(timeout_secs)

    @endpoint
    async def kill(self, proc_id: str) -> None:
        await self.procs[proc_id].kill()


class Large:
    """Bytes that travel beside the pickle, as those of arrays do."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Large, (pickle.PickleBuffer(self.data),)

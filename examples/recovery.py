"""Supervision and recovery: a manager owns its workers, is told when one dies, and replaces it; no piece of work is lost.

The manager launches the procs of its workers itself, so that they end with it. One of them is killed from outside.
"""

from __future__ import annotations

import asyncio
import os
import signal

from procession.actor import Actor, MeshFailure, SupervisionError, endpoint, this_host, this_proc

WORKERS, PIECES = 3, 30


class Worker(Actor):
    @endpoint
    async def pid(self) -> int:
        return os.getpid()

    @endpoint
    async def square(self, number: int) -> int:
        await asyncio.sleep(0.01)
        return number * number


class Manager(Actor):
    def __init__(self) -> None:
        self.procs = this_host().spawn_procs(per_host={"workers": WORKERS})
        self.workers = [self.procs.slice(workers=rank).spawn("worker", Worker) for rank in range(WORKERS)]
        self.replaced: list[str] = []
        self.is_up = [asyncio.Event() for _ in range(WORKERS)]
        for event in self.is_up:
            event.set()

    async def __supervise__(self, failure: MeshFailure) -> bool:
        """Launches the proc again and builds the actor again; True says that the failure is dealt with."""
        rank = next(rank for rank, worker in enumerate(self.workers) if worker is failure.mesh)
        self.is_up[rank].clear()
        self.replaced.append(f"worker {rank}: {failure.exit_kind}, signal {failure.signal}")
        await self.procs.respawn(ranks=[rank])
        self.workers[rank] = self.procs.slice(workers=rank).spawn("worker", Worker)
        self.is_up[rank].set()
        return True

    @endpoint
    async def victim(self) -> int:
        return await self.workers[1].pid.call_one()

    @endpoint
    async def run(self, pieces: int) -> list[int]:
        return list(await asyncio.gather(*(self.work(piece) for piece in range(pieces))))

    async def work(self, piece: int) -> int:
        """The result of one piece, however often its worker has to be replaced for that."""
        rank = piece % WORKERS
        while True:
            await self.is_up[rank].wait()
            try:
                return await self.workers[rank].square.call_one(piece)
            except SupervisionError:
                await asyncio.sleep(0.01)  # who is told of the failure replaces the worker

    @endpoint
    async def report(self) -> list[str]:
        return self.replaced


def main() -> None:
    manager = this_proc().spawn("manager", Manager)
    victim = manager.victim.call_one().get(timeout=30)
    results = manager.run.call_one(PIECES)
    os.kill(victim, signal.SIGKILL)  # an accident: nobody here is asked, and nobody told
    print(f"sum of squares: {sum(results.get(timeout=60))}")
    print(*manager.report.call_one().get(timeout=30), sep="\n")
    manager.stop("the work is done").get(timeout=30)


if __name__ == "__main__":
    main()

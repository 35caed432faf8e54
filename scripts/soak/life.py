"""One place of a mesh: launched, called without a pause, hurt, looked after, and launched again."""

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import plan
from fleet import BootCrash, Worker
from ledger import Ledger

from procession.actor import ActorError, ProcMesh, SupervisionError
from procession.errors import LaunchFailed
from procession.launch import ProcExit

END_SECONDS = 40.0  # a busy machine; none of the deadlines below is a figure
GONE_SECONDS = 5.0
NOTICED_SECONDS = 2.0  # that a launcher is dead; until then launches may go to it
FROZEN_SECONDS = 0.5


class Fleet:
    """A mesh, and what is known about its launcher."""

    def __init__(self, name: str, procs: ProcMesh, boot: BootCrash) -> None:
        self.name = name
        self.procs = procs
        self.boot = boot
        self.launcher_died_at = -1.0
        self.launcher: int | None = None  # a pidfd


class Life:
    """One launch, from its request to its exit."""

    def __init__(self, fleet: Fleet, rank: int, ledger: Ledger) -> None:
        self.fleet, self.ledger = fleet, ledger
        self.begun = time.monotonic()
        self.proc = fleet.procs.slice(place=rank)
        self.name = f"{fleet.name}-{rank}"
        self.expected: list[tuple[str, int | None]] = []
        self.words: str | None = None
        self.hurt_at: float | None = None
        self.pid = self.pidfd = -1
        self.grandchildren: list[int] = []  # pidfds
        # Subscribed to and waited for from the launch on.
        self.events = asyncio.create_task(self._follow(self.proc.events()))
        self.ended = asyncio.create_task(self._end())

    async def _end(self) -> ProcExit:
        waits = [self.proc.wait() for _ in range(3)]
        exits = [(await wait).item() for wait in waits]
        if self.hurt_at is not None:
            self.ledger.exit_seconds.append(time.monotonic() - self.hurt_at)
        self.ledger.check("everyone is told the same exit", exits[1:] == exits[:-1], self.name, f"{exits}")
        return exits[0]

    async def _follow(self, events) -> list:
        told = []
        async for event in events:
            self.ledger.note(self.name, f"{event.kind} {event.detail.get('status', '')}".strip())
            told.append(event)
        return told

    @property
    def launcher_died(self) -> bool:
        """Whether its end may be that of its launcher."""
        return self.fleet.launcher_died_at >= self.begun - NOTICED_SECONDS

    async def up(self) -> Worker | None:
        """Its worker, once that answers; none when the proc has ended before."""
        try:
            await asyncio.wait_for(self.proc.initialized, END_SECONDS)
            worker = self.proc.spawn("worker", Worker)
            self.pid, parent = await asyncio.wait_for(worker.where.call_one(), END_SECONDS)
            self.pidfd = os.pidfd_open(self.pid)
            if self.fleet.launcher is None and not self.launcher_died and is_launcher(parent):
                self.fleet.launcher = os.pidfd_open(parent)
        except (LaunchFailed, ActorError, SupervisionError, ProcessLookupError, FileNotFoundError) as error:
            why = f"{type(error).__name__}: {error}"
            self.ledger.check("a launch comes up", bool(self.expected) or self.launcher_died, self.name, why)
            return None
        self.ledger.check("a launch comes up", True, self.name, "")
        return worker

    async def call(self, worker: Worker) -> None:
        """Calls without a pause, until the proc has ended."""
        number = 0
        while not self.ended.done():
            number += 1
            try:
                answer = await asyncio.wait_for(worker.echo.call_one(number), END_SECONDS)
            except (ActorError, SupervisionError):
                done, _ = await asyncio.wait([self.ended], timeout=END_SECONDS)
                self.ledger.check("a call fails only when its proc ends", bool(done), self.name, "it lives on")
                return
            except TimeoutError:
                self.ledger.check("every call ends", False, self.name, f"no answer after {END_SECONDS} s")
                return
            self.ledger.check("a call is answered with its own value", answer == number, self.name, f"{answer}")
            await asyncio.sleep(0.02)

    def signal(self, number: signal.Signals, pidfd: int | None = None) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd if pidfd is None else pidfd, number)

    def is_frozen(self) -> bool:
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return all((task / "stat").read_text().rpartition(")")[2].split()[0] in "TZX" for task in tasks)

    def expect(self, *ends: tuple[str, int | None]) -> None:
        self.expected += ends
        self.hurt_at = time.monotonic()

    async def survive(self, step: plan.Step, worker: Worker) -> None:
        """Does what a proc survives."""
        if step.kind == "freeze":
            self.signal(signal.SIGSTOP)
            await asyncio.sleep(FROZEN_SECONDS)
            self.signal(signal.SIGCONT)
        elif step.kind == "flood":
            await worker.flood.call_one(step.number * 100)
        else:
            await self.have_grandchildren(worker)
            victim = self.grandchildren[-1]
            if step.kind == "freeze a grandchild":
                self.signal(signal.SIGSTOP, victim)
                return  # it is stopped when its proc ends, and goes all the same
            self.signal(signal.SIGKILL if step.kind.startswith("kill") else signal.SIGABRT, victim)

    async def have_grandchildren(self, worker: Worker) -> None:
        for pid in await worker.grandchildren.call_one():
            self.grandchildren.append(os.pidfd_open(pid))

    async def end(self, step: plan.Step, worker: Worker) -> None:
        """Does what no proc survives, and says what is to be told of it."""
        proc, code = self.proc, step.number
        if step.kind in ("SIGKILL", "SIGABRT", "SIGSEGV"):
            number = signal.Signals[step.kind]
            self.expect(("signaled", number))
            self.signal(number)
        elif step.kind == "SIGKILL with grandchildren":
            await self.have_grandchildren(worker)
            self.expect(("signaled", signal.SIGKILL))
            self.signal(signal.SIGKILL)
        elif step.kind == "exit code":
            self.expect(("exited", code))
            worker.exit.broadcast(code)
        elif step.kind == "last words after a flood":
            self.words = f"last words {code}"
            self.expect(("exited", code))
            worker.die_with_words.broadcast(code * 10, self.words, code)
        elif step.kind == "stop":
            self.expect(("exited", 0))
            await proc.stop("soak")
        elif step.kind == "terminate":
            self.expect(("exited", 0), ("signaled", signal.SIGTERM))
            await proc.terminate(END_SECONDS)
        elif step.kind == "kill":
            self.expect(("signaled", signal.SIGKILL))
            await proc.kill()
        elif step.kind == "terminate what is frozen":
            self.expect(("signaled", signal.SIGKILL))
            self.signal(signal.SIGSTOP)
            while not self.is_frozen():  # SIGTERM ends one that is not frozen yet
                await asyncio.sleep(0.005)
            await proc.terminate(0.2)
        else:
            self.expect(("exited", 0), ("signaled", signal.SIGTERM), ("signaled", signal.SIGKILL))
            asked = [ask() for _ in range(3) for ask in (proc.stop, lambda: proc.terminate(0.1), proc.kill)]
            for one in asked:
                await one

    async def hurt(self, step: plan.Step, worker: Worker) -> None:
        self.ledger.fault(self.name, step.kind)
        try:
            if step.kind in plan.SURVIVED:
                await self.survive(step, worker)
            else:
                await self.end(step, worker)
        except (ActorError, SupervisionError, ProcessLookupError, FileNotFoundError) as error:
            # A call that the end of the proc overtook; whether it may end is looked at with its exit.
            self.ledger.note(self.name, f"{step.kind}: {type(error).__name__}")
        except RuntimeError as error:
            self.ledger.check("a request fails only with its launcher", self.launcher_died, self.name, f"{error}")

    async def settle(self) -> None:
        """Awaits the exit, and checks all that is promised of it."""
        check, name = self.ledger.check, self.name
        done, _ = await asyncio.wait([self.ended], timeout=END_SECONDS)
        check("every launch ends when it has to", bool(done), name, f"expected {self.expected}")
        if not done:
            await self.proc.kill()
        one = await self.ended
        said = (one.kind, one.exit_code if one.kind == "exited" else one.signal)
        right = said in self.expected or (self.launcher_died and one.kind in ("signaled", "failed", "lost"))
        words = self.words is None or said not in self.expected or one.stderr_tail[-1:] == [self.words]
        if self.fleet.name != "native" and self.expected and (one.kind == "lost" or not words):
            # Its launcher has 200 ms for its report, and may be slower on a busy machine, or frozen.
            self.ledger.unreported += 1
            right = words = True
        check("the exit is of the right kind", right, name, f"{one.verdict}, expected {self.expected}")
        if self.words:
            check("last words are kept", words, name, f"{one.stderr_tail[-1:]}")
        await self.check_events(one)
        await self.check_nothing_is_left()

    async def check_events(self, one: ProcExit) -> None:
        check, name = self.ledger.check, self.name
        done, _ = await asyncio.wait([self.events], timeout=END_SECONDS)
        check("events end with the launch", bool(done), name, "they go on")
        if not done:
            self.events.cancel()
            return
        told = self.events.result()
        exits = [event for event in told if event.kind == "exit"]
        check("one exit for each launch", len(exits) == 1, name, f"{len(exits)} exits")
        same = bool(exits) and exits[0].detail["exit"].launch_id == one.launch_id
        check("events tell the exit that wait tells", same, name, f"{exits}")
        order = ["starting", "running", "ready", "stopping"]
        path = [order.index(e.detail["status"]) for e in told if e.detail.get("status") in order]
        check("statuses go forward only", path == sorted(set(path)), name, f"{path}")

    async def check_nothing_is_left(self) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        for pidfd in (self.pidfd, *self.grandchildren):
            if pidfd < 0:
                continue
            while not (gone := has_ended(pidfd)) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            self.ledger.check("nothing is left of a tree", gone, self.name, f"alive {GONE_SECONDS} s after the exit")
            if not gone:
                self.signal(signal.SIGKILL, pidfd)
            os.close(pidfd)


def is_launcher(pid: int) -> bool:
    """Whether it is the proc of a launcher class, and not who adopted the children of one."""
    return b"\0PROCESSION_PROCESS_NAME=launcher-" in Path(f"/proc/{pid}/environ").read_bytes()


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


async def live(
    fleet: Fleet, rank: int, steps: Iterator[plan.Step], ledger: Ledger, all_up: asyncio.Barrier, over: asyncio.Event
) -> int:
    """One place of the mesh until it is over; gives the number of its launches."""
    launches = 1
    life = Life(fleet, rank, ledger)
    worker = await life.up()
    await all_up.wait()
    while True:
        calls = asyncio.create_task(life.call(worker)) if worker else None
        boots = None
        while worker and not life.expected and not life.ended.done() and not over.is_set():
            step = next(steps)
            await asyncio.wait([life.ended], timeout=step.after)
            if life.ended.done():
                break  # with its launcher, or there will be a violation
            if step.kind == "crash at boot":
                boots = step
                step = plan.Step(0, "kill", step.number)
            await life.hurt(step, worker)
        if over.is_set() and not life.expected:
            life.expect(("exited", 0))
            await life.proc.stop("the end of the soak")
        await life.settle()
        if calls:
            await calls
        if over.is_set():
            return launches
        launches += 1
        life = again(fleet, rank, ledger, boots)
        worker = await life.up()


def again(fleet: Fleet, rank: int, ledger: Ledger, boots: plan.Step | None) -> Life:
    """Launches the next incarnation, which crashes at boot when that is what `boots` says."""
    name = f"{fleet.name}-{rank}"
    fleet.boot.withdraw(name)  # the one before may have ended before it came that far
    if boots:
        fleet.boot.order(name, boots.number)
        ledger.fault(name, boots.kind)
    fleet.procs.respawn([rank])
    life = Life(fleet, rank, ledger)
    if boots:
        life.expect(("exited", boots.number))
    return life

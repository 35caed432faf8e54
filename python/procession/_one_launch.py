"""One launch of a `Launcher`, from its turn to its exit."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from procession._answer import summary
from procession.errors import Unreachable
from procession.launch import LaunchOptions, LogWriter, ProcExitResult

if TYPE_CHECKING:
    from procession._simple_launcher import LaunchContext, Launcher

DRAIN_SECONDS = 2.0
"""For what a proc has written last to be read, once it has ended."""
CLEAR_SECONDS = 5.0
"""That an exit waits for what is left of its proc to be taken away."""
RETRY_PAUSES = (0.1, 0.4, 1.0)
"""Seconds between the tries of what nobody can be told of that asked for it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0
"""Seconds until what could not be asked is asked again; each is twice the last, and up to a half of it is left to chance."""
SETTLED_SECONDS, LONGEST_SETTLING_SECONDS = 1.0, 30.0
"""After which a `wait` that is asked again, and has not said otherwise, counts as an answer."""
PROBE_SECONDS = 10.0
TURN_SECONDS = 10.0
"""After which one that waits for its turn says so again."""
LONGEST_LINE = 64 * 1024
"""Bytes of a line of stderr that are kept."""


class OneLaunch:
    def __init__(self, launcher: Launcher, context: LaunchContext, opts: LaunchOptions) -> None:
        self._launcher = launcher
        self._context = context
        self._opts = opts
        self._handle: Any = None
        self._wish: int | None = None
        """The signal that was asked for before there was a handle."""
        self._has_ended = False
        self._logs: asyncio.Task[None] | None = None
        self._out = TailWriter(opts.log_channel if opts.want_stdio else None, opts.tail_lines)

    async def run(self) -> Any:
        """What to send as the exit; raises what makes it a failure, once nothing is left of the proc."""
        if not await self._has_its_turn():
            return ProcExitResult(None, None, False, "cancelled before start: it was waiting for its turn", [])
        try:
            await self._start()
            result = await self._wait()
        except BaseException as error:
            # Also when the launcher itself ends: what it has started does not outlive it.
            await self._finish(kill=True)
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling():
                raise RuntimeError("it was cancelled, by something that it awaits itself") from error
            raise
        await self._finish(kill=False)
        return self._with_tail(result)

    async def ask(self, number: int) -> None:
        """Sends the signal, or keeps it until there is a handle; a kill stands for a terminate too."""
        if self._has_ended:
            return
        if self._handle is not None:
            await self._launcher.signal(self._handle, number)
            return
        if self._wish != signal.SIGKILL:
            self._wish = number
        self._context.cancelled.set()

    async def _has_its_turn(self) -> bool:
        """Waits for a slot, which it has then; False when it was asked to end first."""
        slots = self._launcher._slots
        if not slots.locked():
            await slots.acquire()
            return True
        taking = asyncio.create_task(slots.acquire())
        cancelled = asyncio.create_task(self._context.cancelled.wait())
        has_it = False
        try:
            while not taking.done() and not cancelled.done():
                self._context.progress("waits for its turn")  # its deadline is not spent by those before it
                await asyncio.wait({taking, cancelled}, timeout=TURN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            has_it = taking.done() and not self._context.cancelled.is_set()
        finally:
            cancelled.cancel()
            if not has_it and not taking.cancel():
                slots.release()
        if has_it:
            self._context.progress("its turn has come")
        return has_it

    async def _start(self) -> None:
        launcher, proc_id = self._launcher, self._context.proc_id
        try:
            handle = await launcher.launch(self._opts, self._context)
            if handle is None:
                raise TypeError(
                    f"{type(launcher).__qualname__}.launch gave None: return the handle of what it has started"
                )
        except BaseException:
            await asyncio.wait({launcher._run_beside(self._recover())})
            raise
        finally:
            launcher._slots.release()
        self._handle = handle
        if self._wish is not None:
            number = self._wish
            self._launcher._run_beside(self._persist(f"signal {number}", lambda: launcher.signal(handle, number)))
        launcher.report(proc_id, handle=str(handle))
        if launcher._has("logs") and (self._opts.want_stdio or self._opts.tail_lines):
            self._logs = launcher._run_beside(self._read_logs())

    async def _recover(self) -> None:
        """Whether a launch that failed has left something, within the time that there is."""
        try:
            async with asyncio.timeout(CLEAR_SECONDS):
                self._handle = await self._launcher.recover(self._context.proc_id)
        except Exception as error:
            self._warn(f"recover failed, and what launch has left may still be there: {summary(error)}")

    async def _wait(self) -> Any:
        """What the author's `wait` gives in the end, however often it cannot tell."""
        launcher, loop = self._launcher, asyncio.get_running_loop()
        pause, settles_after = FIRST_PAUSE, SETTLED_SECONDS
        settling: asyncio.TimerHandle | None = None
        while True:
            began = loop.time()
            try:
                return await launcher.wait(self._handle)
            except Unreachable as error:
                why = str(error) or "it was not said why"
            finally:
                if settling is not None:
                    settling.cancel()
            lasted = loop.time() - began
            if lasted > settles_after:
                pause = FIRST_PAUSE
            if settling is not None:  # one that takes long to find out has not answered before that
                settles_after = min(max(settles_after, 2 * lasted), LONGEST_SETTLING_SECONDS)
            pause = await self._until_it_answers(why, pause)
            settling = loop.call_later(settles_after, launcher.report, self._context.proc_id)

    async def _until_it_answers(self, why: str, pause: float) -> float:
        """As far as can be known; the next pause."""
        launcher, proc_id = self._launcher, self._context.proc_id
        missing: str | None = why
        while missing is not None:
            launcher.report(proc_id, unreachable=missing)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)
            if not launcher._has("probe"):
                return pause
            missing = await self._probe()
        launcher.report(proc_id)
        return pause

    async def _probe(self) -> str | None:
        """Why nothing answers; None where something does."""
        try:
            async with asyncio.timeout(PROBE_SECONDS) as bound:
                await self._launcher.probe()
        except Exception as error:
            if bound.expired():
                return f"the probe has got no answer within {PROBE_SECONDS:g} s"
            return str(error) if isinstance(error, Unreachable) and str(error) else summary(error)
        return None

    async def _read_logs(self) -> None:
        try:
            await self._launcher.logs(self._handle, self._out)
        except Exception as error:
            self._warn(f"its output is no longer read: logs raised {summary(error)}")

    async def _finish(self, *, kill: bool) -> None:
        """Leaves nothing behind, as far as that can be done in time."""
        launcher, handle = self._launcher, self._handle
        self._has_ended = True
        if handle is None:
            return
        if kill:
            ending = self._persist("signal 9", lambda: launcher.signal(handle, signal.SIGKILL))
            await self._within("signal 9", ending)
        if self._logs is not None:
            await asyncio.wait({self._logs}, timeout=DRAIN_SECONDS)
            if self._logs.cancel():
                await asyncio.wait({self._logs}, timeout=DRAIN_SECONDS)  # it may still have last words
        if launcher._has("destroy"):
            await self._within("destroy", self._persist("destroy", lambda: launcher.destroy(handle)))

    async def _within(self, what: str, coroutine: Any) -> None:
        """Waits for it, but not for long: after that it goes on beside."""
        task = self._launcher._run_beside(coroutine)
        await asyncio.wait({task}, timeout=CLEAR_SECONDS)
        if not task.done():
            self._warn(f"{what} takes longer than {CLEAR_SECONDS:g} s; its exit is told now, and {what} goes on")

    async def _persist(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        for pause in (*RETRY_PAUSES, None):
            try:
                return await call()
            except Exception as error:
                if pause is None:
                    self._warn(
                        f"{what} has failed {len(RETRY_PAUSES) + 1} times; look for it by hand: {summary(error)}"
                    )
                    return None
            await asyncio.sleep(pause)
        return None

    def _with_tail(self, result: Any) -> Any:
        """With what was read of stderr; what is no result goes on as it is, and is refused where all are."""
        lines = self._out.lines()
        if isinstance(result, int):
            return ProcExitResult(result, None, False, None, lines)
        if isinstance(result, ProcExitResult) and isinstance(result.stderr_tail, list):
            return replace(result, stderr_tail=[*lines, *result.stderr_tail])
        return result

    def _warn(self, text: str) -> None:
        """For whoever reads what the launcher writes: `procs.launcher_logs()`."""
        print(f"procession: proc {self._context.proc_id}: {text}", file=sys.stderr, flush=True)


class TailWriter(LogWriter):
    """Keeps the last lines of stderr, too."""

    def __init__(self, log_channel: str | None, most: int) -> None:
        super().__init__(log_channel)
        self._tail_lines = most
        self._lines: deque[str] = deque(maxlen=most)
        self._open = b""

    def _keep_tail(self, lines: list[str]) -> None:
        self._lines.extend(lines)

    def stderr(self, data: bytes) -> None:
        super().stderr(data)
        *whole, last = data.split(b"\n")
        for line in whole:
            self._keep(self._open + line)
            self._open = b""
        self._open = (self._open + last)[:LONGEST_LINE]

    def _keep(self, line: bytes) -> None:
        self._lines.append(line[:LONGEST_LINE].decode(errors="replace").removesuffix("\r"))

    def lines(self) -> list[str]:
        """Oldest first, what cannot be decoded replaced; an unfinished line is one."""
        if self._open:
            self._keep(self._open)
            self._open = b""
        return [*self._lines]

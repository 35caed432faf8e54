"""Results that come later: from any thread with `get`, in any asyncio loop with `await`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from procession import _validate
from procession.errors import WrongContext

if TYPE_CHECKING:
    import asyncio

    from procession._native import Waiter

R = TypeVar("R")
S = TypeVar("S")


class Future(Generic[R]):
    """The result of something that is already under way; it does not have to be awaited for that.

    The result is kept: any number of threads and tasks may wait for it, any number of times, and a
    waiter that is cancelled or runs into its timeout changes nothing for the others.
    """

    # What raises the kept error lets go of `self`, or the error's traceback and the future would keep each other, and all
    # that the caller's frames hold, until the garbage collector comes.

    __slots__ = ("_deadline", "_error", "_lock", "_value")

    _deadline: float | None
    _error: BaseException | None
    _lock: threading.RLock
    _value: R

    def __init__(self) -> None:
        raise TypeError("a Future is what calls return; it cannot be constructed directly")

    @classmethod
    def _new(cls) -> Self:
        future = object.__new__(cls)
        future._deadline = None
        future._error = None
        future._lock = threading.RLock()  # a signal handler may ask for the same future
        return future

    @staticmethod
    def _of(
        pending: Callable[[], Waiter | None],
        finish: Callable[[], S],
        deadline: float | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Future[S]:
        """One that is described by functions, see the methods of their names."""
        return Described._by(pending, finish, deadline, cancel)

    @staticmethod
    def _done_with(value: S) -> Future[S]:
        future = Future._of(lambda: None, lambda: value)
        future._next_waiter()
        return future

    # What a kind of future has of its own

    def _pending(self) -> Waiter | None:
        """Something to wait for, again and again, until None; then `_finish` is called. Changes nothing that a second call
        would change again."""
        raise NotImplementedError

    def _finish(self) -> R:
        """The result. It is called again after a KeyboardInterrupt, and after it raised `Missed`."""
        raise NotImplementedError

    def _give_up(self) -> bool:
        """After it gave True nothing is pending any more, and `_finish` raises."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """It is settled. What was waited for may hold buffers and ports."""
        raise NotImplementedError

    def get(self, timeout: float | None = None) -> R:
        """The result, or what went wrong, raised. Waits `timeout` seconds at most (TimeoutError; None: for ever).

        Refused (WrongContext) where a running event loop would be blocked: write `await future` there.
        """
        try:
            self._wait(timeout)
            return self._outcome()
        finally:
            del self

    def result(self, timeout: float | None = None) -> R:
        """As `get`."""
        try:
            return self.get(timeout)
        finally:
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What went wrong, or None. A wait that takes too long raises TimeoutError."""
        self._wait(timeout)
        return self._error

    def done(self) -> bool:
        """Whether `get` would return at once."""
        with self._lock:
            return self._is_settled() or self._pending() is None or _left(self._deadline) == 0

    def cancel(self) -> bool:
        """Waits no longer for what was called, and tells the actors: True when there was something to cancel.

        Then `get` raises `errors.CallCancelled`, also for others who wait. A message that an actor has not begun with when
        it hears of this is dropped; an `async def` endpoint gets asyncio.CancelledError where it awaits; a `def` endpoint runs on, can ask
        `context().cancelled`, and its result is dropped. The actors live on.

        A future that is done stays what it is, and one that is not of a call cannot be cancelled: False. Futures of one
        `stream` are cancelled together. Neither the drop of a future nor the cancellation of a task that awaits it
        cancels the call.
        """
        with self._lock:
            return not self._is_settled() and self._pending() is not None and self._give_up()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        if not self.done():
            return False
        from procession.errors import CallCancelled

        return isinstance(self.exception(0), CallCancelled)

    def __await__(self) -> Generator[Any, None, R]:
        try:
            while (waiter := self._next_waiter()) is not None:
                yield from _wait_in_loop(waiter, _left(self._deadline)).__await__()
            return self._outcome()
        finally:
            del self

    def as_asyncio(self) -> asyncio.Future[R]:
        """An asyncio future of the running loop that gets this result."""
        import asyncio

        async def follow() -> R:
            return await self

        return asyncio.ensure_future(follow())

    def _wait(self, timeout: float | None) -> None:
        until = _deadline_in(_validate.wait_seconds("timeout", timeout))
        while (waiter := self._next_waiter()) is not None:
            refuse_on_event_loop("Future.get()", "await the future instead")
            ends = _earlier(until, self._deadline)
            if not waiter.wait(_left(ends)) and ends == until and _left(until) == 0:
                raise TimeoutError(f"no result within {timeout} s; the call goes on and can be waited for again")

    def _next_waiter(self) -> Waiter | None:
        """What to wait for next; None once settled."""
        with self._lock:
            while not self._is_settled():
                waiter = self._pending()
                if waiter is not None and _left(self._deadline) != 0:
                    return waiter
                with suppress(Missed):
                    self._settle(timed_out=waiter is not None)
            return None

    def _settle(self, timed_out: bool) -> None:
        try:
            if timed_out:
                raise TimeoutError("not all of it had happened at the deadline")
            value = self._finish()
            if not self._is_settled():  # by a signal handler
                self._value = value
        except (KeyboardInterrupt, Missed):
            raise
        except BaseException as error:
            if not self._is_settled():
                self._error = error.with_traceback(None)
        self._let_go()

    def _is_settled(self) -> bool:
        return self._error is not None or hasattr(self, "_value")

    def _outcome(self) -> R:
        if self._error is None:
            return self._value
        try:
            raise self._error.with_traceback(None)
        finally:
            del self

    def __repr__(self) -> str:
        if not self._is_settled():
            return f"<Future {'done' if self.done() else 'pending'}>"
        return f"<Future raised {self._error!r}>" if self._error is not None else f"<Future {self._value!r}>"


class Missed(Exception):
    """Somebody else was faster to take what a future had seen: it waits for the next."""


class Described(Future[R]):
    """One that is described by functions."""

    __slots__ = ("_cancel_of", "_finish_of", "_pending_of")

    _cancel_of: Callable[[], bool] | None
    _finish_of: Callable[[], R] | None
    _pending_of: Callable[[], Waiter | None] | None

    @classmethod
    def _by(
        cls,
        pending: Callable[[], Waiter | None],
        finish: Callable[[], R],
        deadline: float | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Self:
        future = cls._new()
        future._pending_of = pending
        future._finish_of = finish
        future._deadline = deadline
        future._cancel_of = cancel
        return future

    def _pending(self) -> Waiter | None:
        return None if self._pending_of is None else self._pending_of()

    def _finish(self) -> R:
        if self._finish_of is None:
            raise AssertionError("a future was settled twice")
        return self._finish_of()

    def _give_up(self) -> bool:
        return self._cancel_of is not None and self._cancel_of()

    def _let_go(self) -> None:
        self._pending_of = self._finish_of = self._cancel_of = None


def finish_of(future: Future[Any]) -> Callable[[], Any] | None:
    """What a described future finishes with; None of any other, and once it is settled."""
    return future._finish_of if isinstance(future, Described) else None


def when_all(waiters: Sequence[Waiter], finish: Callable[[], R], timeout: float | None = None) -> Future[R]:
    """A future of several things; TimeoutError when some are missing after `timeout` seconds from now."""
    left = list(reversed(waiters))

    def pending() -> Waiter | None:
        while left:
            waiter = left[-1]
            if not waiter.done():
                return waiter
            left.pop()
        return None

    return Future._of(pending, finish, _deadline_in(timeout))


def when_done(waiter: Waiter, finish: Callable[[], R], cancel: Callable[[], bool] | None = None) -> Future[R]:
    """A future of one thing."""
    return Future._of(lambda: None if waiter.done() else waiter, finish, cancel=cancel)


def gather(
    futures: Sequence[Future[Any]], finish: Callable[[], R], cancel: Callable[[], bool] | None = None
) -> Future[R]:
    """A future that calls `finish` when all of these are settled, well or not."""

    def pending() -> Waiter | None:
        return next((waiter for future in futures if (waiter := future._next_waiter()) is not None), None)

    return Future._of(pending, finish, cancel=cancel)


def then(first: Future[Any], follow: Callable[[], Future[R]], *, whatever: bool = False) -> Future[R]:
    """What `follow` gives, which is called when `first` is settled: well, or `whatever` it came to.

    It is called by whoever waits for this then, or asks whether it is done: without that it never is.
    """
    second: list[Future[R]] = []

    def pending() -> Waiter | None:
        waiter = first._next_waiter()
        if waiter is not None:
            return waiter
        if not second and (whatever or first.exception() is None):
            second.append(follow())
        return second[0]._next_waiter() if second else None

    def finish() -> R:
        if not second:
            first.get()
        return second[0].get()

    return Future._of(pending, finish)


def on_event_loop() -> bool:
    """Whether this thread is in a running event loop."""
    # Another thread may be importing it at this moment: then no loop runs yet.
    running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return running_loop is not None and running_loop() is not None


def refuse_on_event_loop(what: str, instead: str) -> None:
    """Raises WrongContext on a thread whose event loop is running, where blocking would stop the loop."""
    if not on_event_loop():
        return
    if "ipykernel" in sys.modules and threading.current_thread() is threading.main_thread():
        return  # a notebook's cell runs on the kernel's loop, and nothing that is waited for here needs that loop
    raise WrongContext(f"{what} would block the event loop that runs on this thread: {instead}")


async def wait_for(waiter: Waiter) -> Any:
    """The result of `waiter`, without blocking the loop. Cancel safe: the wait can be repeated."""
    while not waiter.done():
        await _wait_in_loop(waiter, None)
    return waiter.result()


async def wait_at_most(waiter: Waiter, seconds: float) -> None:
    """Waits for `waiter`, without blocking the loop, and no longer than `seconds`."""
    if not waiter.done():
        await _wait_in_loop(waiter, seconds)


async def _wait_in_loop(waiter: Waiter, seconds: float | None) -> None:
    from procession._loop import queue_of_running_loop

    await queue_of_running_loop().wait(waiter, seconds)


def _deadline_in(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)

"""Functions that give a `Future`, written as an `async def`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextvars import Context as Variables
from contextvars import copy_context
from functools import partial, wraps
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from procession import _answer, _validate
from procession._actor import is_async
from procession._future import Described, Future, refuse_on_event_loop
from procession._runtime import runtime

if TYPE_CHECKING:
    import asyncio

    from procession import _native

P = ParamSpec("P")
R = TypeVar("R")

_running: set[asyncio.Task[Any]] = set()
"""An event loop does not keep its tasks."""


def returns_future(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Future[R]]:
    """Makes a plain function of an `async def`, which gives a `Future` of what that returns.

    Its body runs once, when the future is first waited for: `await` runs it as a task of that event loop, `get` on a loop
    of its own on the calling thread, as asyncio.run does. Whoever waits besides gets the same. A `get` that runs the body and
    into its timeout cancels it, and TimeoutError is the outcome then. A future that nobody waits for never runs it.
    TypeError for a function that is no `async def`.
    """
    if not is_async(function):
        raise TypeError(f"returns_future is for an `async def`, and {function!r} is none")

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return _BodyFuture._begin(function(*args, **kwargs))

    return call


class _BodyFuture(Described[R]):
    __slots__ = ("_body", "_done", "_taking")

    _body: tuple[Coroutine[Any, Any, R], Variables] | None
    """Until somebody runs it."""
    _done: tuple[_native.PortRef, _native.PortReceiver]
    """What others who wait for it are told by."""
    _taking: Lock

    @classmethod
    def _begin(cls, body: Coroutine[Any, Any, R]) -> _BodyFuture[R]:
        try:
            done, receiver = runtime().open_once_port()
        except BaseException:
            body.close()
            raise
        waiter = receiver.waiter()

        def lost() -> R:
            raise RuntimeError("the runtime of this process was shut down before the body of this future had ended")

        future = cls._by(lambda: None if waiter.done() else waiter, lost)
        future._body = body, copy_context()
        future._done = done, receiver
        future._taking = Lock()
        return future

    def _take(self) -> tuple[Coroutine[Any, Any, R], Variables] | None:
        with self._taking:
            body, self._body = self._body, None
        return body

    def _publish(self, finish: Callable[[], R]) -> None:
        """The first outcome counts."""
        with self._lock:
            if self._is_settled():
                return
            self._finish_of = finish
            self._pending_of = None
            self._next_waiter()
        _answer.send_value(self._done[0], None)

    def _publish_task(self, task: asyncio.Task[R]) -> None:
        _running.discard(task)
        if not task.cancelled() and isinstance(task.exception(), KeyboardInterrupt):
            self._publish(_cancelled)  # it is raised where the body ran, and nowhere else
        else:
            self._publish(task.result)

    def _wait(self, timeout: float | None) -> None:
        until = _validate.wait_seconds("timeout", timeout)
        if self._body is not None:
            refuse_on_event_loop("Future.get()", "await the future instead")
            body = self._take()
            if body is not None and _runs_a_loop():
                # In a cell of a notebook, which waits for it as for anything else.
                helper = Thread(target=self._run, args=(*body, until), daemon=True)
                helper.start()
                helper.join()
            elif body is not None:
                self._run(*body, until)
        super()._wait(timeout)

    def _run(self, body: Coroutine[Any, Any, R], variables: Variables, timeout: float | None) -> None:
        import asyncio

        async def run() -> None:
            task = asyncio.ensure_future(body)
            task.add_done_callback(self._publish_task)
            try:
                _, late = await asyncio.wait({task}, timeout=timeout)
            except BaseException:
                self._publish(_cancelled)
                task.cancel()
                await asyncio.wait({task})
                raise
            if late:
                self._publish(partial(_raise_late, timeout))
                task.cancel()
                await asyncio.wait({task})

        try:
            with asyncio.Runner() as runner:
                runner.run(run(), context=variables)
        finally:
            body.close()
            self._publish(_cancelled)  # unless something else has happened before

    def __await__(self) -> Generator[Any, None, R]:
        body = self._take()
        if body is not None:
            import asyncio

            task = asyncio.get_running_loop().create_task(body[0], context=body[1])
            _running.add(task)
            task.add_done_callback(self._publish_task)
        return (yield from super().__await__())

    def __del__(self) -> None:
        # Without the warning that it was never awaited.
        if getattr(self, "_body", None) is not None:
            self._body[0].close()  # type: ignore[index]


def _runs_a_loop() -> bool:
    from asyncio import _get_running_loop

    return _get_running_loop() is not None


def _cancelled() -> NoReturn:
    from asyncio import CancelledError

    raise CancelledError


def _raise_late(timeout: float | None) -> NoReturn:
    raise TimeoutError(f"not done within {timeout} s, and cancelled")

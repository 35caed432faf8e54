"""Carries completions of the runtime into asyncio loops, one queue for each loop that waits."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from procession import _native
from procession.errors import WrongContext

if TYPE_CHECKING:
    from procession._native import Waiter


class LoopQueue:
    """The tokens that a loop waits for.

    The loop holds it, and drops it when it is closed: not earlier, because what runs at the very end waits too.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue = _native.CompletionQueue()
        self._tokens = count(1)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self._queue.fileno(), self._drain)

    async def wait(self, waiter: Waiter, seconds: float | None) -> None:
        """Until `waiter` is done, or `seconds` have passed. Cancel safe."""
        token = next(self._tokens)
        done = self._waiting[token] = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, _set_done, done)
        notification = waiter.notify(self._queue, token)
        try:
            await done
        finally:
            self._waiting.pop(token, None)
            if notification is not None:
                waiter.forget(notification)
            if timer is not None:
                timer.cancel()
            del self  # the traceback of a cancelled task may last longer than the loop, whose descriptor this holds

    def _drain(self) -> None:
        for token in self._queue.drain():
            done = self._waiting.pop(token, None)
            if done is not None:
                _set_done(done)


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# A queue lives as long as its loop's reader, and keeps the loop, so that the id stays its own.
_queues: WeakValueDictionary[int, LoopQueue] = WeakValueDictionary()


def queue_of_running_loop() -> LoopQueue:
    """Raises WrongContext where no asyncio loop runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise WrongContext("await needs a running asyncio loop: use get() without one") from None
    queue = _queues.get(id(loop))
    if queue is None:
        queue = _queues[id(loop)] = LoopQueue(loop)
    return queue

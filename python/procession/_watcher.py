"""One thread of this process that does something as soon as something else is done."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

from procession import _native

if TYPE_CHECKING:
    from procession._native import Waiter


class Watcher:
    """Calls back on a thread of its own, which starts with the first use and holds up nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: _native.CompletionQueue | None = None
        self._tokens = count(1)
        self._waiting: dict[int, Callable[[], None]] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []

    def when_done(self, waiter: Waiter, then: Callable[[], None]) -> None:
        """Calls `then` once `waiter` is done. From any thread."""
        queue = self._started()
        token = next(self._tokens)
        self._waiting[token] = then
        waiter.notify(queue, token)

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Calls `then` in `seconds`. Only from what this calls."""
        heappush(self._later, (time.monotonic() + seconds, next(self._tokens), then))

    def _started(self) -> _native.CompletionQueue:
        with self._lock:
            if self._queue is None:
                queue = _native.CompletionQueue()
                threading.Thread(target=self._run, args=[queue], name="procession watcher", daemon=True).start()
                self._queue = queue  # only now: where there can be no more threads the next one tries again
            return self._queue

    def _run(self, queue: _native.CompletionQueue) -> None:
        poll = select.poll()
        poll.register(queue.fileno(), select.POLLIN)
        while True:
            left = max(0.0, self._later[0][0] - time.monotonic()) * 1000 if self._later else None
            if poll.poll(left):
                for token in queue.drain():
                    self._call(self._waiting.pop(token))
            while self._later and self._later[0][0] <= time.monotonic():
                self._call(heappop(self._later)[2])

    def _call(self, then: Callable[[], None]) -> None:
        try:
            then()
        except Exception:  # of one mesh; the others are still watched
            if not sys.is_finalizing():
                sys.excepthook(*sys.exc_info())


watcher = Watcher()


def _anew() -> None:
    watcher.__init__()  # type: ignore[misc]  # a forked child has none of its parent's threads


os.register_at_fork(after_in_child=_anew)

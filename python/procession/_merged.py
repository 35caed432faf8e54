"""What happens to procs of several hosts, as one stream of events."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar, cast

from procession import _native
from procession.errors import SupervisionError

if TYPE_CHECKING:
    from procession._native import CompletionQueue, Waiter
    from procession._procs import Events

T = TypeVar("T")
SIGNALS = 0.2
"""Seconds within which a wait lets a signal handler run."""


class MergedEvents:
    """Some subscriptions as one. What the procs of one host do keeps its order; between hosts there is none."""

    def __init__(self, parts: Sequence[Events]) -> None:
        self._parts = list(parts)
        self._turn = 0

    def next(self, timeout: float | None) -> dict[str, Any] | None:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.ended:
            for _ in self._parts:
                self._turn = (self._turn + 1) % len(self._parts)
                part = self._parts[self._turn]
                given = None if part.ended else part.next(0)
                if given is not None:
                    return given
            left = None if until is None else max(0.0, until - time.monotonic())
            if not self.ended and not AnyOf(self._open()).wait(left):
                return None
        return None

    def drain(self) -> list[dict[str, Any]]:
        return list(chain.from_iterable(part.drain() for part in self._parts))

    def waiter(self) -> Waiter:
        return cast("Waiter", AnyOf(self._open()))

    def _open(self) -> list[Waiter]:
        return [part.waiter() for part in self._parts if not part.ended]

    @property
    def ended(self) -> bool:
        return all(part.ended for part in self._parts)


class NoEvents:
    """A subscription of procs of which nothing happens any more but what is given."""

    def __init__(self, given: Sequence[dict[str, Any]] = ()) -> None:
        self._given = deque(given)

    def next(self, timeout: float | None) -> dict[str, Any] | None:
        return self._given.popleft() if self._given else None

    def drain(self) -> list[dict[str, Any]]:
        some = list(self._given)
        self._given.clear()
        return some

    def waiter(self) -> Waiter:
        return cast("Waiter", AnyOf([]))

    @property
    def ended(self) -> bool:
        return not self._given


class UntilLost:
    """What happens to the procs of one host: when that is gone, how the rest of them ended, as far as that is known."""

    def __init__(
        self,
        events: Events,
        lost: Callable[[str, Container[str]], Sequence[dict[str, Any]]],
        told: Callable[[dict[str, Any]], None],
    ) -> None:
        """`lost` is given why, and the ids of those whose end was told, and makes events of the others; `told` each event of an end."""
        self._events: Events | None = events
        self._lost = lost
        self._tell = told
        self._told: set[str] = set()
        self._rest: deque[dict[str, Any]] = deque()

    def _asked(self, ask: Callable[[Events], T], otherwise: T) -> T:
        if self._events is None:
            return otherwise
        try:
            return ask(self._events)
        except SupervisionError as error:
            self._events = None
            self._rest.extend(self._lost(str(error), self._told))
            return otherwise

    def next(self, timeout: float | None) -> dict[str, Any] | None:
        given = self._asked(lambda events: events.next(timeout), None)
        if given is None:
            return self._rest.popleft() if self._rest else None
        self._note(given)
        return given

    def drain(self) -> list[dict[str, Any]]:
        none: list[dict[str, Any]] = []
        some = self._asked(lambda events: events.drain(), none)
        for given in some:
            self._note(given)
        rest = list(self._rest)
        self._rest.clear()
        return some + rest

    def _note(self, given: dict[str, Any]) -> None:
        if given["kind"] == "exit":
            self._told.add(given["proc_id"])
            self._tell(given)

    def waiter(self) -> Waiter:
        none: list[Waiter] = []
        found = self._asked(lambda events: [events.waiter()], none)
        return cast("Waiter", AnyOf(found))

    @property
    def ended(self) -> bool:
        return self._asked(lambda events: events.ended, True) and not self._rest


class AnyOf:
    """As `_native.Waiter`: done when one of several is, or there is none."""

    def __init__(self, waiters: Sequence[Waiter]) -> None:
        self._waiters = waiters
        self._notified: dict[int, list[tuple[Waiter, int]]] = {}

    def done(self) -> bool:
        return not self._waiters or any(waiter.done() for waiter in self._waiters)

    def wait(self, timeout: float | None) -> bool:
        if self.done():
            return True
        until = None if timeout is None else time.monotonic() + timeout
        queue = _native.CompletionQueue()
        number = self.notify(queue, 0)
        try:
            while not self.done():
                left = SIGNALS if until is None else min(SIGNALS, until - time.monotonic())
                if left <= 0:
                    return False
                select.select([queue.fileno()], [], [], left)
            return True
        finally:
            self.forget(number)

    def result(self) -> None:
        """Each of them has its own."""

    def notify(self, queue: CompletionQueue, token: int) -> int:
        number = len(self._notified)
        self._notified[number] = []
        for waiter in self._waiters:
            notification = waiter.notify(queue, token)
            if notification is not None:
                self._notified[number].append((waiter, notification))
        return number

    def forget(self, notification: int) -> None:
        for waiter, number in self._notified.pop(notification, ()):
            waiter.forget(number)

"""The output of procs, with the rank in front of each line."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from procession._fold import WINDOW, Fold, Folded, prefix_and_suffix
from procession._future import refuse_on_event_loop, wait_at_most, wait_for

if TYPE_CHECKING:
    from procession._procs import Events, Procs


class Logs:
    """Lines, to be read once, with `for` or with `async for`."""

    def __init__(self, procs: Procs, bases: list[int], tail: int | None, follow: bool, fold: bool) -> None:
        self.subscription: Events | None = None
        if follow:
            self.subscription, past = procs.subscribe_with_past(bases, tail)
        else:
            past = procs.tails(bases, tail)
        self._ranks = {base: place for place, base in enumerate(bases)}
        self._past = [f"[{rank}] {line}" for rank, streams in enumerate(past) for lines in streams for line in lines]
        self._fold = Fold(len(bases)) if fold and len(bases) > 1 else None

    def fold_from_now_on(self, fold: bool) -> None:
        """For lines that were asked for with `fold`."""
        if self._fold is not None:
            self._fold.window = WINDOW if fold else 0.0

    def __iter__(self) -> Iterator[str]:
        yield from self._past
        subscription = self.subscription
        if subscription is None:
            return
        refuse_on_event_loop("for", "use `async for`")
        while True:
            given = subscription.next(self._patience())
            yield from self._shown([] if given is None else [given])
            if given is None and subscription.ended:
                break
        yield from self._rest()

    async def __aiter__(self) -> AsyncIterator[str]:
        for line in self._past:
            yield line
        subscription = self.subscription
        while subscription is not None and not subscription.ended:
            patience = self._patience()
            if patience is None:
                await wait_for(subscription.waiter())
            else:
                await wait_at_most(subscription.waiter(), patience)
            for line in self._shown(subscription.drain()):
                yield line
        for line in self._rest():
            yield line

    def _patience(self) -> float | None:
        return None if self._fold is None else self._fold.wait(time.monotonic())

    def _shown(self, given: Iterable[dict[str, Any]]) -> Iterator[str]:
        """What can be shown now that these have come."""
        if self._fold is None:
            yield from (_text(one, {self._ranks[one["rank"]]}) for one in given)
            return
        now = time.monotonic()
        for one in given:
            self._fold.add(one, self._ranks[one["rank"]], now)
        yield from map(_folded, self._fold.due(now))

    def _rest(self) -> Iterator[str]:
        if self._fold is not None:
            yield from map(_folded, self._fold.rest())


def _folded(one: Folded) -> str:
    return _text(one.given, one.ranks)


def _text(given: Any, ranks: set[int]) -> str:
    prefix, suffix = prefix_and_suffix(ranks)
    if given["kind"] == "dropped":
        return f"{prefix} … {given['count']} lines of {given['stream']} were not kept up with"
    return f"{prefix} {given['line']}{suffix}"

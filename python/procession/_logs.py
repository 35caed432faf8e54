"""The output of procs, with the rank in front of each line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from procession import _native
from procession._future import refuse_on_event_loop, wait_for

if TYPE_CHECKING:
    from procession._native import ProcHandle, Subscription


class Logs:
    """Lines, to be read once, with `for` or with `async for`."""

    def __init__(self, handles: list[ProcHandle], tail: int | None, follow: bool) -> None:
        self.subscription: Subscription | None = None
        if follow:
            self.subscription, past = _native.subscribe_with_past(handles)
        else:
            past = [[handle.output_tail(stream) for stream in ("stdout", "stderr")] for handle in handles]
        self._ranks = {handle.rank: place for place, handle in enumerate(handles)}
        self._past = [
            f"[{rank}] {line}" for rank, streams in enumerate(past) for lines in streams for line in _last(lines, tail)
        ]

    def __iter__(self) -> Iterator[str]:
        yield from self._past
        if self.subscription is not None:
            refuse_on_event_loop("for", "use `async for`")
            while (given := self.subscription.next(None)) is not None:
                yield self._render(given)

    async def __aiter__(self) -> AsyncIterator[str]:
        for line in self._past:
            yield line
        subscription = self.subscription
        while subscription is not None and not subscription.ended:
            await wait_for(subscription.waiter())
            for given in subscription.drain():
                yield self._render(given)

    def _render(self, given: dict[str, Any]) -> str:
        rank = self._ranks[given["rank"]]
        if given["kind"] == "dropped":
            return f"[{rank}] … {given['count']} lines of {given['stream']} were not kept up with"
        return f"[{rank}] {given['line']}"


def _last(lines: list[str], count: int | None) -> list[str]:
    return lines if count is None else lines[len(lines) - min(count, len(lines)) :]

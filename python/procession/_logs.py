"""The output of procs, with the rank in front of each line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from procession import _native
from procession._future import refuse_on_event_loop, wait_for

if TYPE_CHECKING:
    from procession._native import ProcHandle


class Logs:
    """Lines, to be read once, with `for` or with `async for`."""

    def __init__(self, handles: list[ProcHandle], tail: int | None, follow: bool) -> None:
        # Subscribed before the past is read: what comes in between may be given twice, and is never lost.
        self._subscription = _native.subscribe(handles, output=True, lifecycle=False) if follow else None
        self._ranks = {handle.proc_id: rank for rank, handle in enumerate(handles)}
        self._past = [
            f"[{rank}] {line}"
            for rank, handle in enumerate(handles)
            for stream in ("stdout", "stderr")
            for line in _last(handle.output_tail(stream), tail)
        ]

    def __iter__(self) -> Iterator[str]:
        yield from self._past
        if self._subscription is not None:
            refuse_on_event_loop("for", "use `async for`")
            while (given := self._subscription.next(None)) is not None:
                yield self._render(given)

    async def __aiter__(self) -> AsyncIterator[str]:
        for line in self._past:
            yield line
        subscription = self._subscription
        while subscription is not None and not subscription.ended:
            await wait_for(subscription.waiter())
            for given in subscription.drain():
                yield self._render(given)

    def _render(self, given: dict[str, Any]) -> str:
        rank = self._ranks[given["proc_id"]]
        if given["kind"] == "dropped":
            return f"[{rank}] … {given['count']} lines of {given['stream']} were not kept up with"
        return f"[{rank}] {given['line']}"


def _last(lines: list[str], count: int | None) -> list[str]:
    return lines if count is None else lines[len(lines) - min(count, len(lines)) :]

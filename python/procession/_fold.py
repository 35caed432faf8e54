"""Lines that several ranks write at about the same time, shown once."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

WINDOW = 0.1
"""Seconds that a line waits for its like, at most."""
MOST_WAITING = 10_000
"""Lines that wait at once; the first goes when there is one more."""


@dataclass
class Folded:
    """One line, and who wrote it."""

    given: Mapping[str, Any]
    number: int
    due: float
    ranks: set[int] = field(default_factory=set)


class Fold:
    """Puts identical lines of one stream together that come from different ranks within the window.

    The lines of one rank stay in their order, none waits for longer than the window, and each is shown once: over all
    that is shown, the ranks add up to the lines that were added.
    """

    def __init__(self, ranks: int, window: float = WINDOW) -> None:
        self._all = ranks
        self.window = window
        """Seconds that a line waits for others, from now on; with 0 each is shown by itself."""
        self._waiting: deque[Folded] = deque()
        self._alike: dict[tuple[str, str], list[Folded]] = {}
        self._last: dict[int, int] = {}
        """Of each rank the number of the line that its latest is in."""
        self._count = 0

    def add(self, given: Mapping[str, Any], rank: int, now: float) -> None:
        """Something that a subscription gave. What is no whole line stays by itself."""
        key = (given["stream"], given["line"]) if given.get("ends", False) else None
        alike = [] if key is None else self._alike.setdefault(key, [])
        # Behind what the rank has written before, or its lines would change places.
        place = bisect_right(alike, self._last.get(rank, -1), key=lambda one: one.number)
        if place < len(alike):
            into = alike[place]
        else:
            into = Folded(given, self._count, now + self.window)
            self._count += 1
            self._waiting.append(into)
            alike.append(into)
        into.ranks.add(rank)
        self._last[rank] = into.number

    def due(self, now: float) -> Iterator[Folded]:
        """What nobody else can join, and what has waited long enough, in order."""
        while self._waiting:
            first = self._waiting[0]
            if first.due > now and len(first.ranks) < self._all and len(self._waiting) <= MOST_WAITING:
                return
            yield self._pop()

    def rest(self) -> Iterator[Folded]:
        """All that waits, for the end."""
        while self._waiting:
            yield self._pop()

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None while nothing waits."""
        return max(0.0, self._waiting[0].due - now) if self._waiting else None

    def _pop(self) -> Folded:
        first = self._waiting.popleft()
        if first.given.get("ends", False):
            key = (first.given["stream"], first.given["line"])
            alike = self._alike[key]
            del alike[0]
            if not alike:
                del self._alike[key]
        return first


def prefix_and_suffix(ranks: Iterable[int]) -> tuple[str, str]:
    """`[3]` for one, `[0-15]` for a whole range; any others with their number behind: `[0,3,7]` and ` (×3)`."""
    ordered = sorted(ranks)
    parts: list[tuple[int, int]] = []
    for rank in ordered:
        if parts and parts[-1][1] == rank - 1:
            parts[-1] = (parts[-1][0], rank)
        else:
            parts.append((rank, rank))
    text = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
    return f"[{text}]", f" (×{len(ordered)})" if len(parts) > 1 else ""

"""Sequences in which the same value often stands several times in a row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, TypeVar, overload

R = TypeVar("R")

FEWEST = 16
"""Shorter sequences stay as they are."""

ATOMS = frozenset({bool, int, str, bytes})
"""Types whose equal values cannot be told apart, so that one may stand for all."""


class Runs(Sequence[R]):
    """The values of a list, each of a row of the same ones kept once. It is read only."""

    __slots__ = ("_ends", "_kept")

    def __init__(self, ends: list[int], kept: list[R]) -> None:
        self._ends = ends
        """Where each run ends, which is where the next begins."""
        self._kept = kept

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> list[R]: ...
    def __getitem__(self, index: int | slice) -> R | list[R]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"index {index} of {len(self)}")
        return self._kept[bisect_right(self._ends, at)]

    def __iter__(self) -> Iterator[R]:
        begin = 0
        for end, value in zip(self._ends, self._kept, strict=True):
            yield from repeat(value, end - begin)
            begin = end

    def __reduce__(self) -> tuple[Any, ...]:
        return Runs, (self._ends, self._kept)


def compressed(values: Sequence[R]) -> Sequence[R]:
    """The same values, as runs where these are fewer than half as many, else as a list of its own."""
    if isinstance(values, Runs):
        return values
    if len(values) < FEWEST:
        return list(values)
    ends: list[int] = []
    kept: list[R] = []
    most = len(values) // 2
    last: Any = values[0]
    for at, value in enumerate(values):
        if value is last or (type(value) in ATOMS and type(value) is type(last) and value == last):
            continue
        ends.append(at)
        kept.append(last)
        last = value
        if len(kept) >= most:
            return list(values)
    return Runs([*ends, len(values)], [*kept, last])

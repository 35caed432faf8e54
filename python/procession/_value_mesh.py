"""Values by rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

from procession._runs import compressed
from procession._shape import Extent, Mesh, Point, Region

R = TypeVar("R")


class ValueMesh(Mesh, Generic[R]):
    """One value for each rank of a mesh, in rank order. The same value of many ranks in a row is kept, and sent, once."""

    __slots__ = ("_own_region", "_values")

    def __init__(self, extent: Extent, values: Sequence[R]) -> None:
        if len(values) != extent.nelements:
            raise ValueError(f"{len(values)} values for {extent.nelements} ranks of {extent!r}")
        self._own_region = Region.dense(extent)
        self._values = compressed(values)

    @property
    def _region(self) -> Region:
        return self._own_region

    def _with_region(self, region: Region) -> Self:
        return type(self)(region.extent, [self._values[rank] for rank in region.base_ranks()])

    def get(self, rank: int) -> R:
        """The value of `rank`, counted in row-major order."""
        if not 0 <= rank < len(self._values):
            raise IndexError(f"rank {rank} of {len(self._values)}")
        return self._values[rank]

    def item(self, **coordinates: int) -> R:
        """The one value at these coordinates; each dimension has to be named."""
        region = self._own_region
        extra = [label for label in coordinates if label not in region.labels]
        if extra:
            raise KeyError(f"item has extra dimensions: {extra}")
        for label in region.labels:
            if label not in coordinates:
                raise KeyError(label)
            region = region.select(label, coordinates[label])
        return self._values[region.offset]

    def items(self) -> Iterator[tuple[Point, R]]:
        """Pairs of point and value, in rank order."""
        extent = self._own_region.extent
        return ((Point(rank, extent), value) for rank, value in enumerate(self._values))

    def values(self) -> Iterator[R]:
        """The values, in rank order."""
        return iter(self._values)

    def __iter__(self) -> Iterator[tuple[Point, R]]:
        return self.items()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ValueMesh):
            return NotImplemented
        pairs = zip(self._values, other._values, strict=False)
        return bool(self._own_region == other._own_region and all(one is same or one == same for one, same in pairs))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        rows = ",\n".join(f"  ({point!r}, {value!r})" for point, value in self.items())
        return f"ValueMesh({self.extent!r}):\n{rows}"

    def __reduce__(self) -> tuple[Any, ...]:
        return ValueMesh, (self.extent, self._values)

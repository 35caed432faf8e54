"""Named dimensions: extents, points in them, and the regions that slices of a mesh are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from operator import index, mul
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from builtins import slice as Slice


class Extent(Mapping[str, int]):
    """The size of each named dimension, in order; also a mapping from label to size."""

    __slots__ = ("_labels", "_sizes")

    def __init__(self, labels: Sequence[str], sizes: Sequence[int]) -> None:
        if len(labels) != len(sizes):
            raise ValueError(f"{len(labels)} labels and {len(sizes)} sizes: give one size for each label")
        if len(set(labels)) != len(labels):
            raise ValueError(f"labels = {list(labels)!r}: each label may occur once")
        self._labels = tuple(labels)
        self._sizes = tuple(sizes)

    @property
    def labels(self) -> list[str]:
        return list(self._labels)

    @property
    def sizes(self) -> list[int]:
        return list(self._sizes)

    @property
    def nelements(self) -> int:
        """The product of the sizes; 1 without dimensions."""
        return math.prod(self._sizes)

    def __getitem__(self, label: str) -> int:
        try:
            return self._sizes[self._labels.index(label)]
        except ValueError:
            raise KeyError(label) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Extent):
            return self._labels == other._labels and self._sizes == other._sizes
        return Mapping.__eq__(self, other)

    def __hash__(self) -> int:
        return hash((self._labels, self._sizes))

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{label}: {size}" for label, size in self.items()) + "}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Extent, (self._labels, self._sizes)


class Point(Mapping[str, int]):
    """One place in an extent: its rank in row-major order, and a mapping from label to coordinate."""

    __slots__ = ("_extent", "_rank")

    def __init__(self, rank: int, extent: Extent) -> None:
        total = extent.nelements
        if not 0 <= rank < total:
            raise ValueError(f"out of range: total ranks {total}; does not contain rank {rank}")
        self._rank = rank
        self._extent = extent

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def extent(self) -> Extent:
        return self._extent

    def size(self, label: str) -> int:
        """The size of the dimension `label`; its coordinate is `point[label]`."""
        return self._extent[label]

    def __getitem__(self, label: str) -> int:
        extent = self._extent
        size = extent[label]
        inner = math.prod(extent._sizes[extent._labels.index(label) + 1 :])
        return self._rank // inner % size

    def __iter__(self) -> Iterator[str]:
        return iter(self._extent)

    def __len__(self) -> int:
        return len(self._extent)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Point):
            return self._rank == other._rank and self._extent == other._extent
        return Mapping.__eq__(self, other)

    def __hash__(self) -> int:
        return hash((self._rank, self._extent))

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{label!r}: {self[label]}/{self.size(label)}" for label in self) + "}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Point, (self._rank, self._extent)


class Region:
    """Which ranks of a base mesh a mesh covers, and in which shape: an offset and a stride for each dimension."""

    __slots__ = ("labels", "offset", "sizes", "strides")

    def __init__(self, labels: tuple[str, ...], sizes: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
        self.labels = labels
        self.sizes = sizes
        self.strides = strides
        self.offset = offset

    @classmethod
    def dense(cls, extent: Mapping[str, int]) -> Region:
        """All ranks of a base mesh of that extent."""
        sizes = tuple(extent.values())
        return cls(tuple(extent), sizes, row_major(sizes), 0)

    @property
    def extent(self) -> Extent:
        return Extent(self.labels, self.sizes)

    def __len__(self) -> int:
        return math.prod(self.sizes)

    def base_ranks(self) -> list[int]:
        """The base rank of each of its ranks, in rank order."""
        ranks = [self.offset]
        for size, stride in zip(self.sizes, self.strides, strict=True):
            ranks = [rank + step * stride for rank in ranks for step in range(size)]
        return ranks

    def rank_of(self, base_rank: int) -> int:
        """The inverse of `base_ranks`; ValueError when that rank is not in the region."""
        rest, rank = base_rank - self.offset, 0
        for size, stride in zip(self.sizes, self.strides, strict=True):
            step = rest // stride if size > 1 else 0
            if not 0 <= step < size:
                break
            rest -= step * stride
            rank = rank * size + step
        else:
            if rest == 0:
                return rank
        raise ValueError(f"base rank {base_rank} is not in {self!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Region) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.labels, self.sizes, self.strides, self.offset

    def __repr__(self) -> str:
        return f"Region({self.extent!r}, strides={list(self.strides)}, offset={self.offset})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Region, self._key()

    def select(self, label: str, selector: int | Slice) -> Region:
        """An integer drops the dimension; a slice keeps it, smaller."""
        if label not in self.labels:
            raise TypeError(f"Shape does not have dimension labeled {label!r}; it has {list(self.labels)!r}")
        at = self.labels.index(label)
        size, stride = self.sizes[at], self.strides[at]
        before, after = slice(None, at), slice(at + 1, None)
        if isinstance(selector, slice):
            start, stop, step = selector.indices(size)
            if step < 0:
                raise ValueError(f"{label}={selector!r}: the step has to be positive")
            count = len(range(start, stop, step))
            if count == 0:
                raise ValueError(f"empty range {start}:{stop}:{step} in dimension {label!r} of size {size}")
            sizes = (*self.sizes[before], count, *self.sizes[after])
            strides = (*self.strides[before], stride * step, *self.strides[after])
            return Region(self.labels, sizes, strides, self.offset + start * stride)
        if isinstance(selector, bool):
            raise TypeError(f"{label}={selector!r}: give an index or a slice")
        position = index(selector)
        if not 0 <= position < size:
            raise IndexError(f"index out of range: {label}={position}, and the dimension has size {size}")
        without = [values[before] + values[after] for values in (self.sizes, self.strides)]
        labels = self.labels[before] + self.labels[after]
        return Region(labels, without[0], without[1], self.offset + position * stride)

    def split(self, splits: Mapping[str, Sequence[str]], known: Mapping[str, int]) -> Region:
        """Each dimension in `splits` becomes several, whose sizes are `known` except for one at most."""
        unused = dict(known)
        labels: list[str] = []
        sizes: list[int] = []
        strides: list[int] = []
        for label, size, stride in zip(self.labels, self.sizes, self.strides, strict=True):
            parts = tuple(splits.get(label, (label,)))
            unknown = [part for part in parts if part not in unused]
            if len(unknown) > 1:
                raise ValueError(
                    f"Cannot infer size of {parts} because both {unknown[0]} and {unknown[1]} have unknown size. "
                    f"Specify at least one as argument, e.g. {unknown[0]}=4"
                )
            rest, remainder = divmod(size, math.prod(unused[part] for part in parts if part in unused))
            if remainder or (not unknown and rest != 1):
                shown = tuple(unused.get(part, "?") for part in parts)
                raise ValueError(
                    f"Dimension '{label}' of size {size} is not evenly divided by {parts!r} with sizes {shown!r}"
                )
            new_sizes = [unused.pop(part) if part in unused else rest for part in parts]
            labels += parts
            sizes += new_sizes
            strides += row_major(new_sizes, stride)
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"Duplicate dimension name '{label}'")
        if unused:
            raise ValueError(f"unused size constraints: {tuple(unused)}")
        return Region(tuple(labels), tuple(sizes), tuple(strides), self.offset)

    def flatten(self, label: str) -> Region:
        """One dimension of all ranks, in rank order; ValueError when no single stride reaches them."""
        dims = [(size, stride) for size, stride in zip(self.sizes, self.strides, strict=True) if size > 1]
        stride = dims[-1][1] if dims else 1
        sizes = [size for size, _ in dims]
        if tuple(own for _, own in dims) != row_major(sizes, stride):
            raise ValueError(f"cannot flatten sparse mesh: {self!r} has gaps; flatten before slicing")
        return Region((label,), (len(self),), (stride,), self.offset)


def row_major(sizes: Sequence[int], innermost: int = 1) -> tuple[int, ...]:
    """The strides of a mesh of these sizes without gaps."""
    strides = tuple(itertools.accumulate(reversed(sizes), mul, initial=innermost))
    return tuple(reversed(strides[:-1]))


class Mesh:
    """What every mesh can do with its dimensions. A slice is metadata; it shares what the mesh holds."""

    __slots__ = ()

    @property
    def _region(self) -> Region:
        raise NotImplementedError

    def _with_region(self, region: Region) -> Self:
        raise NotImplementedError

    def slice(self, **selectors: int | Slice) -> Self:
        """Selects along dimensions: `mesh.slice(hosts=0, gpus=slice(2, 6))`. An integer removes its dimension."""
        region = self._region
        for label, selector in selectors.items():
            region = region.select(label, selector)
        return self._with_region(region)

    def split(self, **parts: Sequence[str] | int) -> Self:
        """Splits dimensions: `mesh.split(gpus=("dp", "tp"), tp=2)`. The size of one new dimension may be left out."""
        splits: dict[str, Sequence[str]] = {}
        known: dict[str, int] = {}
        for label, value in parts.items():
            if label in self._region.labels:
                if isinstance(value, (str, int)):
                    raise ValueError(f"expected a sequence of dimensions, but got {value!r}")
                splits[label] = value
            elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"'{label}' is not an existing dim. Expected a positive integer size of a new dim.")
            else:
                known[label] = value
        return self._with_region(self._region.split(splits, known))

    def flatten(self, name: str) -> Self:
        """The same ranks in one dimension called `name`."""
        return self._with_region(self._region.flatten(name))

    def rename(self, **names: str) -> Self:
        """The same mesh with dimensions renamed: `mesh.rename(gpus="tp")`."""
        region = self._region
        for label in names:
            if label not in region.labels:
                raise ValueError(
                    f"{label}={names[label]!r}: there is no dimension of that name, only {list(region.labels)!r}"
                )
        return self._with_region(region.split({label: (new,) for label, new in names.items()}, {}))

    def size(self, dim: str | Sequence[str] | None = None) -> int:
        """The size of one dimension, the product of several, or of all."""
        extent = self._region.extent
        if dim is None:
            return extent.nelements
        if isinstance(dim, str):
            if dim not in extent:
                raise KeyError(f"{self!r} does not have dimension {dim!r}")
            return extent[dim]
        return math.prod(self.size(label) for label in dim)

    @property
    def sizes(self) -> dict[str, int]:
        return dict(self._region.extent)

    @property
    def extent(self) -> Extent:
        return self._region.extent

    def __len__(self) -> int:
        return len(self._region)

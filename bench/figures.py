"""What is measured: figures, who is compared, goals; and the programs that give the values."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

OURS = "procession"

Unit = Literal["s", "B/s", "1/s", "B", "%", "MB", ""]


@dataclass(frozen=True)
class Goal:
    """A figure is to be within `limit` times that of the side `of`; without one, within `limit` itself, in its unit."""

    limit: float
    of: str = ""


@dataclass(frozen=True)
class Figure:
    """One row of the table. Sides are compared by their names: bounds no program gets below, peers that do the same."""

    name: str
    unit: Unit = "s"
    bounds: Sequence[str] = ()
    peers: Sequence[str] = ()
    goals: Sequence[Goal] = ()
    more_is_better: bool = False
    worst: bool = False
    """Whether the worst of all rounds counts, and not their median."""

    @property
    def sides(self) -> list[str]:
        return [OURS, *self.bounds, *self.peers]

    def summary(self, rounds: Sequence[float]) -> float:
        return max(rounds) if self.worst else statistics.median(rounds)

    def missed_by(self, goal: Goal, values: dict[str, list[float]]) -> float | None:
        """The factor between what was measured and the goal, at most 1 when it is met; None where a side is missing."""
        if not values.get(OURS) or (goal.of and not values.get(goal.of)):
            return None
        limit = goal.limit * (self.summary(values[goal.of]) if goal.of else 1)
        measured = self.summary(values[OURS])
        return limit / measured if self.more_is_better else measured / limit


@dataclass(frozen=True)
class Probe:
    """What gives a side of some figures their values of one round, in their order."""

    side: str
    figures: Sequence[str]
    run: Callable[[], Sequence[float]]


@dataclass(frozen=True)
class Group:
    """Probes that are compared with each other, and so run one right after the other, from another one on each time."""

    probes: Sequence[Probe]
    rounds: int | None = None
    """No more rounds than this, for what does not vary, or takes long."""


@dataclass(frozen=True)
class Theme:
    name: str
    figures: Sequence[Figure]
    groups: Sequence[Group]


class Skipped(Exception):
    """This machine lacks what a probe needs; the text says what."""

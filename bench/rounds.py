"""Measures themes round by round, interleaved, so that a busy machine is busy for all that is compared."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figures import Group, Probe, Skipped, Theme

GROUP_SECONDS = 40.0
"""A group that takes longer in all its rounds together has fewer of them, so that a whole run stays short."""


@dataclass
class Measured:
    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """By figure and side, of each round."""
    skipped: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why that is no failure."""
    failed: dict[str, str] = field(default_factory=dict)

    def of(self, figure: str) -> dict[str, list[float]]:
        """By side."""
        return {side: values for (name, side), values in self.values.items() if name == figure}


def measure(themes: Sequence[Theme], rounds: int) -> Measured:
    measured = Measured()
    groups = [group for theme in themes for group in theme.groups]
    took: list[list[float]] = [[] for _ in groups]
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for group, seconds in zip(groups, took, strict=True):
            if number and sum(seconds) + max(seconds) > GROUP_SECONDS:
                continue
            if number < (group.rounds or rounds):
                began = time.monotonic()
                run_group(group, number, measured)
                seconds.append(time.monotonic() - began)
                print(f"{seconds[-1]:6.1f} s: {group.probes[0].figures[0]}", file=sys.stderr)
    return measured


def run_group(group: Group, number: int, measured: Measured) -> None:
    first = number % len(group.probes)
    for probe in [*group.probes[first:], *group.probes[:first]]:
        what = f"{probe.side}: {', '.join(probe.figures)}"
        if what not in measured.failed and what not in measured.skipped:
            run_probe(probe, what, measured)


def run_probe(probe: Probe, what: str, measured: Measured) -> None:
    try:
        values = probe.run()
    except Skipped as reason:
        measured.skipped[what] = str(reason)
    except Exception as error:  # the other figures are worth having all the same
        measured.failed[what] = f"{type(error).__name__}: {error}"
    else:
        for figure, value in zip(probe.figures, values, strict=False):
            measured.values.setdefault((figure, probe.side), []).append(value)

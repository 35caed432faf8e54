"""The table and the JSON file of what was measured."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from bench.figures import OURS, Figure, Goal
from bench.rounds import Measured

HEADING = ["figure", "Procession", "bound", "of the bound", "peer", "of the peer", "goal", "met"]
NONE = "-"

SCALES: dict[str, list[tuple[float, str]]] = {
    "s": [(1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")],
    "B/s": [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")],
    "1/s": [(1e6, "M/s"), (1e3, "k/s"), (1, "/s")],
    "B": [(1e6, "MB"), (1e3, "kB"), (1, "B")],
    "%": [(1, "%")],
    "": [(1, "")],
}


def digits(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def scale_of(value: float, unit: str) -> tuple[float, str]:
    scales = SCALES[unit]
    return next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])


def amount(value: float, unit: str) -> str:
    scale, name = scale_of(value, unit)
    return f"{digits(value / scale)} {name}".rstrip()


def show(figure: Figure, rounds: Sequence[float] | None) -> str:
    if not rounds:
        return NONE
    scale, name = scale_of(figure.summary(rounds), figure.unit)
    middle, least, most = (digits(value / scale) for value in (figure.summary(rounds), min(rounds), max(rounds)))
    return f"{middle} {name}".rstrip() + (f" ({least}-{most})" if len(rounds) > 1 else "")


def compared(figure: Figure, sides: Sequence[str], values: dict[str, list[float]]) -> tuple[str, str]:
    """What these sides have measured, and what part of each ours is."""
    shown, ratios = [], []
    for side in sides:
        shown.append(f"{show(figure, values.get(side))} {side}")
        if values.get(OURS) and values.get(side):
            ratio = figure.summary(values[OURS]) / figure.summary(values[side])
            ratios.append(f"{ratio:.2f}x" if ratio >= 0.1 else f"{digits(ratio)}x")
        else:
            ratios.append(NONE)
    return "; ".join(shown) or NONE, "; ".join(ratios) or NONE


def goal_text(figure: Figure, goal: Goal) -> str:
    sign = "≥" if figure.more_is_better else "≤"
    return f"{sign} {digits(goal.limit)}x {goal.of}" if goal.of else f"{sign} {amount(goal.limit, figure.unit)}"


def met_text(missed_by: float | None) -> str:
    if missed_by is None:
        return "not measured"
    return "met" if missed_by <= 1 else f"missed by {missed_by:.2g}x"


def row(figure: Figure, measured: Measured, rounds: int) -> list[str]:
    values = measured.of(figure.name)
    ours = show(figure, values.get(OURS))
    if 0 < (count := len(values.get(OURS, ()))) < rounds:
        ours += f", {count} {'round' if count == 1 else 'rounds'}"
    goals = "; ".join(goal_text(figure, goal) for goal in figure.goals) or NONE
    met = "; ".join(met_text(figure.missed_by(goal, values)) for goal in figure.goals) or NONE
    bound, of_bound = compared(figure, figure.bounds, values)
    peer, of_peer = compared(figure, figure.peers, values)
    return [figure.name, ours, bound, of_bound, peer, of_peer, goals, met]


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def table(figures: Sequence[Figure], measured: Measured, rounds: int, load: str) -> Iterator[str]:
    yield f"{machine()}; median of {rounds} rounds (min-max); {load}"
    yield ""
    yield line(HEADING)
    yield "|---" * len(HEADING) + "|"
    for figure in figures:
        yield line(row(figure, measured, rounds))
    met = [figure.missed_by(goal, measured.of(figure.name)) for figure in figures for goal in figure.goals]
    yield ""
    yield f"{sum(one is not None and one <= 1 for one in met)} of {len(met)} goals are met"
    for what, why in measured.skipped.items():
        yield f"skipped: {what}: {why}"
    for what, why in measured.failed.items():
        yield f"failed: {what}: {why}"


def data(figures: Sequence[Figure], measured: Measured, rounds: int, load: str) -> dict[str, Any]:
    """The same for programs, with the value of each round."""
    rows = []
    for figure in figures:
        values = measured.of(figure.name)
        sides = {side: side_data(figure, side, values[side]) for side in figure.sides if side in values}
        goals = [
            {"goal": goal_text(figure, goal), "missed_by": figure.missed_by(goal, values)} for goal in figure.goals
        ]
        rows.append({"figure": figure.name, "unit": figure.unit, "sides": sides, "goals": goals})
    return {
        "machine": machine(),
        "load": load,
        "rounds": rounds,
        "figures": rows,
        "skipped": measured.skipped,
        "failed": measured.failed,
    }


def side_data(figure: Figure, side: str, rounds: Sequence[float]) -> dict[str, Any]:
    kind = "ours" if side == OURS else "bound" if side in figure.bounds else "peer"
    spread = {"median": statistics.median(rounds), "min": min(rounds), "max": max(rounds)}
    return {"is": kind, **spread, "rounds": list(rounds)}

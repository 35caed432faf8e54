"""Draws docs/flat-cost.svg from docs/flat-cost.json: what each proc costs beside so many others.

Both axes of each part are logarithmic, and a level line is a cost that does not grow.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.report import amount
from bench.running import ROOT

WIDTH, HEIGHT, MARGIN, GAP = 380, 200, 64, 44


class Part(NamedTuple):
    key: str
    title: str
    unit: str


PARTS = [
    Part("spawn", "spawn, time for each proc", "s"),
    Part("host cpu", "client, keeper and guard: processor time for each launch", "s"),
    Part("memory", "memory for each proc, PSS", "B"),
    Part("host memory", "client, keeper and guard: memory for each proc", "B"),
    Part("call", "call to one of them, p50", "s"),
    Part("call to all", "call to all, p50, time for each", "s"),
]

Points = dict[int, list[dict[str, float]]]


def text(x: float, y: float, what: str, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{what}</text>'


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around them."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def part(place: int, one: Part, points: Points) -> Iterator[str]:
    left = MARGIN + (place % 2) * (WIDTH + MARGIN + GAP)
    top = 50 + (place // 2) * (HEIGHT + 72)
    rounds = {number: [max(found[one.key], 1e-9) for found in all_of] for number, all_of in points.items()}
    low, high = decades([value for values in rounds.values() for value in values])
    first, last = decades(list(rounds))

    def x(number: float) -> float:
        return left + WIDTH * (math.log10(number) - first) / (last - first)

    def y(value: float) -> float:
        return top + HEIGHT * (high - math.log10(value)) / (high - low)

    yield text(left, top - 12, one.title, 'font-weight="bold"')
    for power in range(low, high + 1):
        at = y(10**power)
        yield f'<line x1="{left}" y1="{at:.1f}" x2="{left + WIDTH}" y2="{at:.1f}" stroke="#ddd"/>'
        yield text(left - 8, at + 4, amount(10**power, one.unit), 'text-anchor="end"')
    for number in rounds:
        yield text(x(number), top + HEIGHT + 18, f"{number:,}", 'text-anchor="middle"')
    for number, values in rounds.items():
        at = x(number)
        yield f'<line x1="{at:.1f}" y1="{y(min(values)):.1f}" x2="{at:.1f}" y2="{y(max(values)):.1f}" stroke="#1b6ca8"/>'
        yield f'<circle cx="{at:.1f}" cy="{y(statistics.median(values)):.1f}" r="4" fill="#1b6ca8"/>'
    line = " ".join(f"{x(number):.1f},{y(statistics.median(values)):.1f}" for number, values in rounds.items())
    yield f'<polyline points="{line}" fill="none" stroke="#1b6ca8" stroke-width="2"/>'


def plot(points: Points, machine: str) -> str:
    width, height = 2 * (WIDTH + MARGIN) + GAP + 30, 50 + math.ceil(len(PARTS) / 2) * (HEIGHT + 72)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
    lines = [head, f'<rect width="{width}" height="{height}" fill="white"/>']
    lines.append(text(MARGIN, 20, f"What each proc costs beside so many others ({machine}; median and range)"))
    for place, one in enumerate(PARTS):
        lines += part(place, one, points)
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", default=ROOT / "docs/flat-cost.json")
    parser.add_argument("target", type=Path, nargs="?", default=ROOT / "docs/flat-cost.svg")
    options = parser.parse_args()
    found = json.loads(options.source.read_text())
    points = {int(number): rounds for number, rounds in found["points"].items()}
    options.target.write_text(plot(points, found["machine"]))
    print(f"wrote {options.target}")


if __name__ == "__main__":
    main()

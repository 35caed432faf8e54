"""Messages with small payloads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from bench import pipes
from bench.actors import Echo
from bench.figures import OURS, Figure, Goal, Group, Probe, Theme
from bench.running import program
from bench.timing import p50
from procession.actor import this_host

CALLS = 500

CALL = "call from the client to a proc, tiny payload, p50"
CALL_ACROSS = "call from one proc to another, tiny payload, p50"
PIPELINE = "calls a second, pipelined, from one proc to another"
CASTS = "one-way messages a second, from one proc to another"


def call_all(procs: int) -> str:
    return f"call to {procs} procs and all answers, p50"


PING = "multiprocessing.Pipe ping"
PING_ACROSS = "multiprocessing.Pipe ping between two children"
PIPE = "multiprocessing.Pipe between two children"
LOOP = "a loop over as many Pipes"
RAW = "raw Python echo over unix sockets"

FIGURES = [
    Figure(CALL, "s", [RAW], [PING], [Goal(2, PING)]),
    Figure(CALL_ACROSS, "s", [RAW], [PING_ACROSS], [Goal(2, PING_ACROSS)]),
    Figure(PIPELINE, "1/s", [], [PIPE], [Goal(60_000)], more_is_better=True),
    Figure(CASTS, "1/s", [], [PIPE], [Goal(250_000)], more_is_better=True),
    *[Figure(call_all(procs), "s", [RAW], [LOOP], [Goal(3, RAW)]) for procs in (16, 64)],
]


@contextlib.contextmanager
def procs(count: int) -> Iterator[Any]:
    mesh = this_host().spawn_procs(per_host={"workers": count}, preload=["bench.actors"])
    try:
        yield mesh.spawn("echo", Echo)
    finally:
        mesh.stop().get(timeout=60)


def sixteen() -> list[float]:
    with procs(16) as echoes:
        one, other = echoes.slice(workers=0), echoes.slice(workers=1)
        return [
            p50(lambda: one.echo.call_one(1).get(timeout=60), CALLS),
            one.call_other.call_one(other, CALLS).get(timeout=60),
            one.pipeline_to.call_one(other).get(timeout=60),
            one.cast_to.call_one(other).get(timeout=60),
            everyone(echoes, 16),
        ]


def everyone(echoes: Any, count: int) -> float:
    return p50(lambda: echoes.echo.call(1).get(timeout=60), CALLS * 4 // count)


def sixty_four() -> list[float]:
    with procs(64) as echoes:
        return [everyone(echoes, 64)]


def pings(count: int) -> list[float]:
    """Over one Pipe, and over all of them."""
    made = pipes.start(count)
    try:
        return [p50(lambda: pipes.ask_all(made[:1]), CALLS), p50(lambda: pipes.ask_all(made), CALLS * 4 // count)]
    finally:
        pipes.stop(made)


def raw(count: int) -> float:
    return program("sockets", count, CALLS * 4 // count)


THEME = Theme(
    "calls",
    FIGURES,
    [
        Group(
            [
                Probe(OURS, [CALL, CALL_ACROSS, PIPELINE, CASTS, call_all(16)], sixteen),
                Probe(RAW, [CALL], lambda: [raw(1)]),
                Probe(RAW, [CALL_ACROSS], lambda: [raw(1)]),
                Probe(RAW, [call_all(16)], lambda: [raw(16)]),
                Probe(PING_ACROSS, [CALL_ACROSS], lambda: [pipes.between_two(str(CALLS))]),
                Probe(PIPE, [PIPELINE], lambda: [pipes.between_two("pipeline")]),
                Probe(PIPE, [CASTS], lambda: [pipes.between_two("cast", pipes.count)]),
                Probe(PING, [CALL], lambda: pings(16)[:1]),
                Probe(LOOP, [call_all(16)], lambda: pings(16)[1:]),
            ]
        ),
        Group(
            [
                Probe(OURS, [call_all(64)], sixty_four),
                Probe(RAW, [call_all(64)], lambda: [raw(64)]),
                Probe(LOOP, [call_all(64)], lambda: pings(64)[1:]),
            ]
        ),
    ],
)

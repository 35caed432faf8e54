"""Large payloads, one way: from the client to an actor that looks at each page, and says so."""

from __future__ import annotations

import importlib.util
from typing import Any

from bench import pipes
from bench.actors import Echo, Large
from bench.figures import OURS, Figure, Goal, Group, Probe, Theme
from bench.running import program
from bench.timing import seconds
from procession.actor import this_host

BUFFER_MIB, BYTES_MIB = 512, 64
TIMES = 2

BUFFER = f"{BUFFER_MIB} MiB buffer to a proc, in steady state"
BYTES = f"{BYTES_MIB} MiB of bytes to a proc"

COPY = "copy in warm memory"
STREAM = "stream through a unix socket"
PIPE = "send_bytes of a Pipe"

FIGURES = [
    Figure(BUFFER, "B/s", [COPY, STREAM], [PIPE], [Goal(4 << 30)], more_is_better=True),
    Figure(BYTES, "B/s", [COPY, STREAM], [PIPE], [Goal(0.7 * (1 << 30))], more_is_better=True),
]


def buffer(size: int) -> Any:
    """An array of numpy where that is installed."""
    if importlib.util.find_spec("numpy"):
        import numpy as np

        return np.full(size, 1, dtype=np.uint8)
    return Large(bytearray(b"x") * size)


def best_rate(size: int, once) -> float:
    """After one that fills what is kept for the next."""
    once()
    return size / min(seconds(once) for _ in range(TIMES))


def ours(data: Any, size: int) -> list[float]:
    mesh = this_host().spawn_procs(per_host={"workers": 1})
    try:
        echo = mesh.spawn("echo", Echo)

        def once() -> None:
            assert echo.take.call_one(data).get(timeout=60) == size

        return [best_rate(size, once)]
    finally:
        mesh.stop().get(timeout=60)


def pipe(size: int) -> list[float]:
    data = bytearray(b"x") * size
    made = pipes.start(1, target=pipes.take)
    try:
        ((_, connection),) = made

        def once() -> None:
            connection.send_bytes(data)
            assert connection.recv() == size

        rate = best_rate(size, once)
        connection.send_bytes(b"")
        return [rate]
    finally:
        pipes.stop(made)


def group(figure: str, mib: int, data) -> Group:
    return Group(
        [
            Probe(OURS, [figure], lambda: ours(data(mib << 20), mib << 20)),
            Probe(PIPE, [figure], lambda: pipe(mib << 20)),
            Probe(COPY, [figure], lambda: [program("copies", "copy", mib)]),
            Probe(STREAM, [figure], lambda: [program("copies", "stream", mib)]),
        ]
    )


THEME = Theme(
    "payloads", FIGURES, [group(BUFFER, BUFFER_MIB, buffer), group(BYTES, BYTES_MIB, lambda size: b"x" * size)]
)

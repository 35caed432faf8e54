"""What the standard library offers: processes of multiprocessing, and Pipes to them."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from bench.timing import p50, rate

Made = list[tuple[BaseProcess, Connection]]

WINDOW = 100
"""Messages under way: more fill a Pipe in both directions, and both ends wait for ever."""

SPAWN, FORKSERVER = "multiprocessing, spawn", "multiprocessing, forkserver"
METHODS = {SPAWN: "spawn", FORKSERVER: "forkserver"}


def answer(connection: Connection) -> None:
    with suppress(EOFError):
        while (value := connection.recv()) is not None:
            connection.send(value)


def take(connection: Connection) -> None:
    with suppress(EOFError):
        while data := connection.recv_bytes():
            connection.send(len(data))


def count(connection: Connection) -> None:
    noted = 0
    with suppress(EOFError):
        while (value := connection.recv()) is not None:
            if value:
                noted += 1
            else:
                connection.send(noted)


def ask(connection: Connection, what: str, result: Connection) -> None:
    """One of two children that talk: what it takes goes to `result`."""

    def ping() -> None:
        connection.send(1)
        connection.recv()

    def pipeline() -> int:
        for _ in range(WINDOW):
            connection.send(1)
        for _ in range(WINDOW):
            connection.recv()
        return WINDOW

    def cast() -> int:
        for _ in range(WINDOW):
            connection.send(1)
        return WINDOW

    def flush() -> None:
        connection.send(0)
        connection.recv()

    if what == "pipeline":
        result.send(rate(pipeline))
    elif what == "cast":
        result.send(rate(cast, flush))
    else:
        result.send(p50(ping, int(what)))
    connection.send(None)


def between_two(what: str, target=answer) -> float:
    """Measured in a child that talks to another one: the p50 of so many pings, or a rate."""
    context = multiprocessing.get_context("spawn")
    (one, other), (receiver, sender) = context.Pipe(), context.Pipe(duplex=False)
    children = [context.Process(target=ask, args=(one, what, sender)), context.Process(target=target, args=(other,))]
    for child in children:
        child.start()
    for connection in (one, other, sender):
        connection.close()
    try:
        took = receiver.recv()
    finally:
        for child in children:
            child.join(10)
            child.kill()
            child.join()
        receiver.close()
    return took


def start(procs: int, method: str = "spawn", target=answer) -> Made:
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["bench.pipes"])
    made: Made = []
    for _ in range(procs):
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        made.append((process, ours))
    return made


def stop(made: Made) -> None:
    for process, connection in made:
        if process.is_alive():
            with suppress(OSError):
                connection.send(None)
    for process, connection in made:
        process.join()
        connection.close()


def ask_all(made: Made) -> None:
    for _, connection in made:
        connection.send(1)
    for _, connection in made:
        connection.recv()


def spawn(procs: int, method: str) -> tuple[float, float]:
    """Seconds until each of so many has answered, and seconds until all have ended after that."""
    began = time.perf_counter()
    made = start(procs, method)
    ask_all(made)
    answered = time.perf_counter()
    stop(made)
    return answered - began, time.perf_counter() - answered

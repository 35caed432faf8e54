"""Lower bounds of launches and ends: an interpreter that has imported all that a proc needs forks itself.

`python -m bench.programs.forks answer 64` prints the seconds from the first fork until each child has answered a byte over its
socketpair and the processor time of each; `exit 64` those to fork, `_exit` and reap; `told 64` those from the word to end until
all are reaped.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import time

import procession.actor  # noqa: F401  # what a proc has imported when it is ready
from bench.processes import tree_cpu_seconds


class Children:
    """Forks that answer each byte with it, and end with their stream."""

    def __init__(self, count: int) -> None:
        self.pids: list[int] = []
        self.streams: list[socket.socket] = []
        gc.freeze()
        for _ in range(count):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                first = (self.streams or [ours])[0].fileno()
                os.closerange(first, ours.fileno() + 1)  # one call for the ends of all siblings, which are in a row
                self.answer(theirs)
            theirs.close()
            self.pids.append(pid)
            self.streams.append(ours)

    def answer(self, stream: socket.socket) -> None:
        try:
            while data := stream.recv(1):
                stream.sendall(data)
        finally:
            os._exit(0)

    def ask(self) -> None:
        for stream in self.streams:
            stream.sendall(b"x")
        for stream in self.streams:
            assert stream.recv(1) == b"x"

    def end(self) -> None:
        for stream in self.streams:
            stream.close()
        for pid in self.pids:
            os.waitpid(pid, 0)


def until_answered(count: int) -> list[float]:
    cpu, began = tree_cpu_seconds(), time.perf_counter()
    children = Children(count)
    children.ask()
    took, cpu = time.perf_counter() - began, tree_cpu_seconds() - cpu
    children.end()
    return [took, cpu / count]


def until_exit(count: int) -> list[float]:
    began, pids = time.perf_counter(), []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    return [time.perf_counter() - began]


def until_told(count: int) -> list[float]:
    children = Children(count)
    children.ask()
    began = time.perf_counter()
    children.end()
    return [time.perf_counter() - began]


if __name__ == "__main__":
    what = {"answer": until_answered, "exit": until_exit, "told": until_told}[sys.argv[1]]
    print(json.dumps(what(int(sys.argv[2]))))

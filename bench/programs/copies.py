"""Lower bounds of large payloads: a copy in warm memory, and a stream through a unix socket to another process.

`python -m bench.programs.copies copy 512` prints the bytes a second of the one, for 512 MiB, `stream` those of the other: the
best of three after one to warm up.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable

from bench.timing import seconds


def best(size: int, work: Callable[[], object]) -> float:
    work()
    return size / min(seconds(work) for _ in range(3))


def receive(stream: socket.socket, into: memoryview) -> bool:
    """Whether all of it has come."""
    while into and (got := stream.recv_into(into)):
        into = into[got:]
    return not into


def stream_rate(data: bytearray) -> float:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            into = memoryview(bytearray(b"x") * len(data))
            while receive(theirs, into):
                theirs.sendall(b"x")
        finally:
            os._exit(0)
    theirs.close()

    def once() -> None:
        ours.sendall(data)
        assert ours.recv(1) == b"x"

    got = best(len(data), once)
    ours.close()
    os.waitpid(pid, 0)
    return got


def copy_rate(data: bytearray) -> float:
    into = memoryview(bytearray(b"x") * len(data))  # written: pages nobody wrote are all the same one

    def copy() -> None:
        into[:] = data

    return best(len(data), copy)


if __name__ == "__main__":
    what = {"copy": copy_rate, "stream": stream_rate}[sys.argv[1]]
    print(json.dumps(what(bytearray(b"x") * (int(sys.argv[2]) << 20))))

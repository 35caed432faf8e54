"""A way to an engine's socket that can be cut and mended."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path


class Way:
    """Listens at `path` and passes on what comes to the socket `target`, until it is cut."""

    def __init__(self, path: Path, target: str) -> None:
        self.path, self.target = path, target
        self.ends: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.mend()

    def mend(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.start(self.accept, self.listener)

    def cut(self) -> None:
        """Every connection ends, and none is taken."""
        self.path.unlink(missing_ok=True)
        for end in (self.listener, *self.ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        # Those that pass on end by that; what they start meanwhile is in the list too.
        for thread in self.threads:
            thread.join()
        for end in (self.listener, *self.ends):
            end.close()
        self.ends, self.threads = [], []

    def start(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                self.ends += [near, far]
                far.connect(self.target)
                self.start(self.carry, near, far)
                self.start(self.carry, far, near)

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, files, *_ = socket.recv_fds(source, 65536, 16)
                if not data:
                    break
                # They go with the first byte that came with them.
                sent = socket.send_fds(sink, [data], files) if files else 0
                for file in files:
                    os.close(file)
                sink.sendall(data[sent:])
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def way(path: Path, target: str) -> Iterator[Way]:
    made = Way(path, target)
    try:
        yield made
    finally:
        made.cut()

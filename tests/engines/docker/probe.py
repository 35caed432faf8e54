"""The actor that looks around inside a container."""

import os
import socket
import sys

from procession.actor import Actor, current_rank, endpoint, this_host


class Probe(Actor):
    @endpoint
    def place(self) -> tuple[int, str, str]:
        return current_rank().rank, socket.gethostname(), os.readlink("/proc/self/ns/net")

    @endpoint
    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    @endpoint
    def end(self, code: int) -> None:
        print("last words", file=sys.stderr, flush=True)
        os._exit(code)

    @endpoint
    def signal(self, number: int) -> None:
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), number)

    @endpoint
    def fill_memory(self) -> int:
        return len(b"x" * (1 << 30))


class Owner(Actor):
    """Launches procs of its own."""

    def __init__(self, launcher, actor) -> None:
        self.launcher, self.actor = launcher, actor

    @endpoint
    def launch(self) -> int:
        self.procs = this_host().spawn_procs(per_host={"w": 2}, launcher=self.launcher)
        return len(list(self.procs.spawn("probes", self.actor).place.call().get(timeout=50).items()))

"""`with_python_executable`."""

import os
import sys

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Reader(Actor):
    @endpoint
    def executable(self) -> str:
        return sys.executable


if __name__ == "__main__":
    host = this_host().with_python_executable(sys.executable)
    reader = host.spawn_procs().spawn("reader", Reader)
    fact("runs it", os.path.basename(reader.executable.call_one().get(timeout=20)).startswith("python"))

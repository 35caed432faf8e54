"""An actor that runs in guests, whose image has none of these files: so it travels by value."""

import os
import sys
import threading
from pathlib import Path

from procession.actor import Actor, endpoint


class Guest(Actor):
    @endpoint
    def kernel(self):
        return os.uname().release, os.getpid()

    @endpoint
    def memory(self):
        """All of the guest's, in MiB, and what this proc may have, in bytes."""
        total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
        group = Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")
        return int(total.split()[1]) >> 10, Path(f"/sys/fs/cgroup{group}/memory.max").read_text().strip()

    @endpoint
    def processors(self):
        return os.cpu_count()

    @endpoint
    def cards(self):
        return sorted(os.listdir("/sys/class/net"))

    @endpoint
    def echo(self, data):
        return data

    @endpoint
    def say(self, out, err):
        print(out, flush=True)
        print(err, file=sys.stderr, flush=True)

    @endpoint
    def write(self, path):
        Path(path).write_text("written")
        os.sync()
        return Path(path).exists()

    @endpoint
    def panic(self):
        threading.Timer(0.2, Path("/proc/sysrq-trigger").write_text, ["c"]).start()

    @endpoint
    def exhaust(self):
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20)))

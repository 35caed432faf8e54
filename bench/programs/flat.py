"""What each proc costs beside so many others, in a client of their own.

`python -m bench.programs.flat 64` prints an object: seconds to spawn each, until all have answered a call; processor time of client,
keeper and guard for each until then; bytes of memory and descriptors of the client and of the keeper for each; PSS of each proc with
what it is launched from; the p50 in seconds of a call to one, and of one to all for each; and seconds to stop each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from bench.actors import Echo
from bench.processes import anonymous_bytes, descendants, own_cpu_seconds, pss_bytes
from bench.timing import p50
from procession.actor import this_host

CALLS = 300


def host() -> list[int]:
    """This process, keepers and guards."""
    below = descendants(os.getpid())
    return [os.getpid(), *[pid for pid in below if Path(f"/proc/{pid}/comm").read_text().startswith("procession-")]]


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def warm() -> None:
    mesh = this_host().spawn_procs(per_host={"workers": 1})
    mesh.spawn("echo", Echo).echo.call(1).get(timeout=60)
    mesh.stop().get(timeout=60)


def flat(procs: int) -> dict[str, float]:
    warm()
    before = host()
    memory, cpu, open_before = (sum(map(of, before)) for of in (anonymous_bytes, own_cpu_seconds, descriptors))
    began = time.perf_counter()
    mesh = this_host().spawn_procs(per_host={"workers": procs})
    echoes = mesh.spawn("echo", Echo)
    echoes.echo.call(1).get(timeout=300)
    took = time.perf_counter() - began
    after = host()
    found = {
        "spawn": took / procs,
        "host cpu": (sum(map(own_cpu_seconds, after)) - cpu) / procs,
        "host memory": (sum(map(anonymous_bytes, after)) - memory) / procs,
        "host descriptors": (sum(map(descriptors, after)) - open_before) / procs,
        "memory": sum(map(pss_bytes, descendants(os.getpid()))) / procs,
    }
    one = echoes.slice(workers=0)
    found["call"] = p50(lambda: one.echo.call_one(1).get(timeout=60), CALLS)
    found["call to all"] = p50(lambda: echoes.echo.call(1).get(timeout=60), max(5, CALLS // procs)) / procs
    began = time.perf_counter()
    mesh.stop().get(timeout=300)
    found["stop"] = (time.perf_counter() - began) / procs
    return found


if __name__ == "__main__":
    print(json.dumps(flat(int(sys.argv[1]))))

"""A client attaches to two workers, launches there, and shuts them down."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from monarch.actor import Actor, attach_to_workers, enable_transport, endpoint, run_worker_loop_forever, this_host

from facts import fact

ENV = {"PROCESSION_SESSION_KEY": "7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e"}


class Here(Actor):
    @endpoint
    def pid(self) -> int:
        return os.getpid()

    @endpoint
    def others(self, here: "Here") -> int:
        return len(set(here.pid.call().get(timeout=60).values()))


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def is_listened_at(port: int) -> bool:
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


if __name__ == "__main__":
    if sys.argv[1:]:
        run_worker_loop_forever(address=sys.argv[1], ca="trust_all_connections")
    enable_transport("tcp://127.0.0.1:0")
    ports = free_ports(2)
    workers = [f"tcp://127.0.0.1:{port}" for port in ports]
    running = [subprocess.Popen([sys.executable, __file__, worker]) for worker in workers]
    while not all(map(is_listened_at, ports)):
        time.sleep(0.05)
    hosts = attach_to_workers(ca="trust_all_connections", workers=workers)
    fact("initialized", hosts.initialized.get(timeout=60))
    fact("hosts", dict(hosts.sizes))
    procs = hosts.spawn_procs(per_host={"gpus": 2})
    fact("procs", dict(procs.sizes))
    here = procs.spawn("here", Here)
    fact("processes", len(set(here.pid.call().get(timeout=60).values())))
    fact("of a host", len(set(here.slice(hosts=1).pid.call().get(timeout=60).values())))
    asker = procs.slice(hosts=1, gpus=1).spawn("asker", Here)
    fact("asked from one of them", asker.others.call_one(here).get(timeout=60))
    near = this_host().spawn_procs().spawn("near", Here)
    fact("the client's own, from there", asker.others.call_one(near).get(timeout=60))
    procs.stop().get(timeout=60)
    hosts.shutdown().get(timeout=60)
    for worker in running:
        worker.kill()
        worker.wait()

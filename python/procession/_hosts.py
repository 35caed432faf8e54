"""Hosts on other machines: each is a proc that launches there in our name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from procession import _validate, config
from procession._host_mesh import PROC_ARGS, Environment, HostMesh, this_host, unlike_others
from procession._hosted import HostedProcs
from procession._proc_mesh import ProcMesh
from procession._shape import Region

if TYPE_CHECKING:
    from procession._worker_launcher import WorkerLauncher
    from procession.launch import BootstrapCommand

_meshes = count(1)


def hosts_from_launcher(
    launcher: Any,
    hosts: Mapping[str, int] | int = 1,
    *,
    name: str | None = None,
    python_executable: str | os.PathLike[str] | None = None,
    env: Environment | None = None,
    ready_timeout: float = config.READY_TIMEOUT,
    ack_timeout: float = config.ACK_TIMEOUT,
    unknown_budget: float = config.UNKNOWN_BUDGET,
    lease: float = config.LEASE,
) -> HostMesh:
    """Hosts that `launcher` starts where it launches to, and returns at once; `initialized` tells when they are there.

    Each is a process of this package on its machine: what is spawned on these hosts is launched there, by the native
    launcher unless `spawn_procs` is given another, and ends with it. It needs procession of the same version there, and a
    way back to this client as any proc of the launcher does (`DialBack.network`).

    hosts: their number, or their shape: `{"racks": 2, "hosts": 4}`. A number is `{"hosts": n}`.
    python_executable: the interpreter to start there; None is the path of this one.
    env: what is added to the environment of each.
    lease: seconds that a host may be without a connection before it has ended, and all procs on it are killed.
    """
    sizes = {"hosts": hosts} if isinstance(hosts, int) else dict(hosts)
    procs = this_host().spawn_procs(
        sizes,
        name=name,
        bootstrap_command=_command(python_executable),
        launcher=launcher,
        env=env,
        ready_timeout=ready_timeout,
        ack_timeout=ack_timeout,
        unknown_budget=unknown_budget,
        lease=lease,
        stop_grace=config.HOST_STOP_GRACE,
    )
    return HostMesh(Region.dense(procs.extent), hosts=procs)


def hosts_on_workers(workers: Sequence[WorkerLauncher], name: str | None) -> HostMesh:
    """One host on each."""
    name = unlike_others("hosts", next(_meshes)) if name is None else _validate.name("name", name)
    each = [
        this_host().spawn_procs(
            name=f"{name}-{place}",
            bootstrap_command=_command(worker.interpreter),
            launcher=worker,
            stop_grace=config.HOST_STOP_GRACE,
        )
        for place, worker in enumerate(workers)
    ]
    together = HostedProcs(this_host(), [procs._procs for procs in each], 1, time.time())
    region = Region.dense({"hosts": len(workers)})
    return HostMesh(region, hosts=ProcMesh(name, together, region), workers=workers)


def _command(interpreter: str | os.PathLike[str] | None) -> BootstrapCommand:
    from procession.launch import BootstrapCommand

    program = sys.executable if interpreter is None else os.fspath(interpreter)
    _validate.program("python_executable", program, None)
    return BootstrapCommand(program, arg0=program, args=(*PROC_ARGS, config.HOST_ARG))

"""Hosts on other machines: each is a proc that launches there in our name."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from procession import _validate, config
from procession._host_mesh import PROC_ARGS, Environment, HostMesh, this_host
from procession._shape import Region


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
    from procession.launch import BootstrapCommand

    sizes = {"hosts": hosts} if isinstance(hosts, int) else dict(hosts)
    program = sys.executable if python_executable is None else os.fspath(python_executable)
    _validate.program("python_executable", program, None)
    command = BootstrapCommand(program, arg0=program, args=(*PROC_ARGS, config.HOST_ARG))
    procs = this_host().spawn_procs(
        sizes,
        name=name,
        bootstrap_command=command,
        launcher=launcher,
        env=env,
        ready_timeout=ready_timeout,
        ack_timeout=ack_timeout,
        unknown_budget=unknown_budget,
        lease=lease,
        stop_grace=config.HOST_STOP_GRACE,
    )
    return HostMesh(Region.dense(procs.extent), hosts=procs)

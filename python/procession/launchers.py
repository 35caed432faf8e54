"""Configuration objects for launchers: pass one as `launcher=` to `spawn_procs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procession._chain import Chain
from procession._combinators import Chaos, Fallback, Record, Replay, Retry, Throttle
from procession._command import Command
from procession._docker import Docker, Podman
from procession._dry_run import dry_run
from procession._kubernetes import Kubernetes
from procession._launcher import NativeLauncher, resolve
from procession._launcher_files import from_file
from procession._launcher_names import LauncherInfo, available, by_name
from procession._launcher_process import launcher_of, process_of
from procession._pool import Pool
from procession._slurm import Slurm
from procession._ssh import Ssh
from procession._systemd import Systemd
from procession._vm import Vm
from procession._worker_launcher import WorkerLauncher, connect_all
from procession._zygote import Zygote
from procession.errors import LauncherUnavailable

if TYPE_CHECKING:
    from procession._future import Future
    from procession.launch import ProcLauncher

__all__ = [
    "Chain",
    "Chaos",
    "Command",
    "Docker",
    "Fallback",
    "Kubernetes",
    "LauncherInfo",
    "NativeLauncher",
    "Podman",
    "Pool",
    "Record",
    "Replay",
    "Retry",
    "Slurm",
    "Ssh",
    "Systemd",
    "Throttle",
    "Vm",
    "WorkerLauncher",
    "Zygote",
    "available",
    "by_name",
    "connect_all",
    "dry_run",
    "from_file",
    "native",
    "register",
]


def native() -> NativeLauncher:
    """The built-in launcher, which `launcher=None` stands for too."""
    return NativeLauncher()


def register(launcher: type[ProcLauncher]) -> Future[None]:
    """Starts the process of a launcher class before its first launch does; done when the launcher is built there.

    Raises LauncherUnavailable, with the traceback, when it cannot be. Without this the launches themselves fail for that.
    """
    from procession._future import gather

    if not isinstance(launcher, type):
        raise TypeError(f"launcher = {launcher!r}: has to be a class; an actor that was spawned needs no registration")
    resolve(launcher)
    launcher_of(launcher)
    process = process_of(launcher)
    assert process is not None
    built, refusal = process.mesh.initialized, process.refusal

    def finish() -> None:
        error = built.exception()
        if error is not None or refusal is not None:
            why = refusal or error
            raise LauncherUnavailable(f"launcher {launcher.__qualname__} could not be started: {why}") from error

    return gather([built], finish)

"""What a launcher would ask for, without a launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from procession._combinators import leaves_of
from procession._engines import EngineLauncher
from procession._host_mesh import HostMesh, this_host
from procession._launcher import AnyLauncher
from procession._procs import Slot
from procession.errors import Unsupported


class _Settled(BaseException):  # nothing between here and there takes it for a failure
    def __init__(self, slots: Sequence[Slot], launcher: AnyLauncher) -> None:
        self.slots = slots
        self.launcher = launcher


class _OnPaper(HostMesh):
    """A host on which everything is settled, and nothing launched."""

    def _before_launch(self, slots: Sequence[Slot], launcher: AnyLauncher) -> None:
        raise _Settled(slots, launcher)


def dry_run(launcher: Any, bootstrap_command: Any = None, **options: Any) -> str:
    """What `launcher` would ask of its substrate for one proc, in the form that this has there. Nothing is launched.

    launcher, bootstrap_command, options: as for `this_host().spawn_procs`. Of launchers that go around others it is what the first
    of these would ask for.

    It is JSON for Docker, Podman and Kubernetes, and text for people otherwise: command lines and scripts of Slurm, properties of a unit of systemd, for
    Ssh, Command and Vm the command that leads to an agent, with what that is to launch. Values of the environment are hidden (`...`), and so
    is how the proc reaches back. Ids are other ones in each launch.

    The launcher connects, as for a launch: of Ssh and Command an agent is started for that. InvalidArgument, LauncherUnavailable, RuntimeError
    for what the launch would be refused for; Unsupported for launchers that are written in Python, or have no request to show.
    """
    try:
        _OnPaper(this_host()._region).spawn_procs(bootstrap_command=bootstrap_command, launcher=launcher, **options)
    except _Settled as settled:
        slots, chosen = settled.slots, settled.launcher
    if len(slots) != 1:
        raise Unsupported(f"a dry run is of one proc, and these are {len(slots)}: leave per_host out")
    shown = [_shown_by(leaf, slots[0]) for leaf in leaves_of(chosen)]
    if not shown:
        raise Unsupported(f"{chosen!r} answers from a recording, and asks for nothing")
    return shown[0]


def _shown_by(launcher: AnyLauncher, slot: Slot) -> str:
    native = launcher.native() if isinstance(launcher, EngineLauncher) else None
    if native is None:
        rule = "it asks no substrate for anything, or is written in Python, and nobody knows what it asks for before it does"
        raise Unsupported(f"there is no dry run of a {type(launcher).__name__}: {rule}")
    return native.dry_run(slot.spec())

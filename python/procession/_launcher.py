"""Which launcher a spawn uses: the built-in one, one for a worker, an actor of the user's, or a class that gets a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from procession import _validate
from procession._actor import check_class
from procession._actor_mesh import ActorMesh
from procession._combinators import MadeHere, combination_from
from procession._engines import EngineLauncher, engine_from
from procession._launcher_process import launcher_of, process_of
from procession._procs import Slot
from procession._runtime import runtime
from procession._worker_launcher import WorkerLauncher, worker_from
from procession._zygote import Zygote, zygote_from
from procession.errors import InvalidArgument, Unsupported, VersionMismatch

if TYPE_CHECKING:
    from procession._host_mesh import HostMesh
    from procession._native import Launcher
    from procession._proc_mesh import ProcMesh
    from procession.launch import ProcLauncher


MOST_LAUNCHERS = 64
"""That are remembered; of one that is forgotten, only what waits for it is counted anew."""


class NativeLauncher:
    """The built-in launcher: processes of this machine, as children of the host's keeper."""

    without_output: str | None = None
    """Who does not hand over the output of procs; None: it is handed over."""
    starts_a_process = False
    """Whether it has a process to itself, which its first launch starts."""

    def native(self) -> Launcher | None:
        return None

    def described(self, on: HostMesh | None = None) -> None:
        """Every host has it."""

    def process(self) -> ProcMesh:
        raise Unsupported("the native launcher has no process of its own whose output could be read")

    def check(self, slots: Sequence[Slot]) -> None:
        """It can do all that can be asked for."""

    def __repr__(self) -> str:
        return "launchers.native()"


class ActorLauncher:
    """A launcher written in Python: an actor that the user has spawned."""

    starts_a_process = False

    def __init__(self, mesh: ActorMesh[Any]) -> None:
        self._mesh = mesh
        self.without_output = _without_output(mesh._class)

    def native(self) -> Launcher | None:
        return native_from(self.described())

    def described(self, on: HostMesh | None = None) -> dict[str, Any]:
        """What a host has to know of it, as plain data."""
        return describe(self._mesh, own_proc=False)

    def process(self) -> ProcMesh:
        raise Unsupported(
            f"launcher {self._mesh._name!r} is an actor that was spawned by hand: what it writes is output of its proc; read "
            "that one's logs()"
        )

    def check(self, slots: Sequence[Slot]) -> None:
        """Refuses what the launcher says that it cannot do."""
        refuse_unable(self._mesh._class, slots)


class ClassLauncher:
    """A launcher written in Python, as a class: it runs in a process of its own, one for each class."""

    starts_a_process = True

    def __init__(self, cls: type[ProcLauncher]) -> None:
        self._cls = cls
        self.without_output = _without_output(cls)

    def native(self) -> Launcher | None:
        return native_from(self.described())

    def described(self, on: HostMesh | None = None) -> dict[str, Any]:
        """Starts its process where there is none: on the host of this process, or on that one."""
        return launcher_of(self._cls, on)

    def process(self) -> ProcMesh:
        process = process_of(self._cls)
        if process is None:
            raise Unsupported(f"no process of {self._cls.__qualname__} was started yet: spawn procs through it first")
        return process.procs

    def check(self, slots: Sequence[Slot]) -> None:
        """Refuses what the launcher says that it cannot do."""
        refuse_unable(self._cls, slots)


class KnownLauncher:
    """A launcher of another process, as it was described from there."""

    starts_a_process = False

    def __init__(self, described: dict[str, Any] | None, without_output: str | None) -> None:
        self._described = described
        self.without_output = without_output

    def native(self) -> Launcher | None:
        return None if self._described is None else native_from(self._described)

    def described(self, on: HostMesh | None = None) -> dict[str, Any] | None:
        return self._described

    def process(self) -> ProcMesh:
        raise Unsupported("what a launcher writes itself can be read only where its procs were spawned")

    def check(self, slots: Sequence[Slot]) -> None:
        """That was done where they were spawned."""


class InheritedLauncher:
    """What has launched procs that were taken over, as an earlier client had configured it."""

    without_output: str | None = None
    starts_a_process = False

    def __init__(self, launcher: Launcher | None) -> None:
        self._launcher = launcher

    def native(self) -> Launcher | None:
        return self._launcher

    def described(self, on: HostMesh | None = None) -> dict[str, Any] | None:
        raise Unsupported("what was taken over is launched by this process alone; make a launcher of your own")

    def process(self) -> ProcMesh:
        raise Unsupported("the launcher of what was taken over has no process of its own whose output could be read")

    def check(self, slots: Sequence[Slot]) -> None:
        """That was done where they were spawned."""


ConfiguredLauncher = NativeLauncher | WorkerLauncher | EngineLauncher | Zygote | MadeHere
AnyLauncher = ActorLauncher | ClassLauncher | KnownLauncher | InheritedLauncher | ConfiguredLauncher


def resolve(launcher: Any) -> AnyLauncher:
    """What the argument `launcher` stands for; refuses what is none."""
    if launcher is None:
        return NativeLauncher()
    if isinstance(launcher, ConfiguredLauncher):
        return launcher
    from procession.launch import ProcLauncher

    if isinstance(launcher, ActorMesh):
        if not issubclass(launcher._class, ProcLauncher):
            raise TypeError(
                f"launcher = {launcher!r}: its class has to be a subclass of procession.launch.ProcLauncher"
            )
        if len(launcher) != 1:
            raise InvalidArgument(
                "launcher", repr(launcher), f"has to be one actor, and these are {len(launcher)}: slice it"
            )
        refuse_other_version(launcher._class)
        return ActorLauncher(launcher)
    if isinstance(launcher, type) and issubclass(launcher, ProcLauncher):
        check_class(launcher)
        refuse_other_version(launcher)
        return ClassLauncher(launcher)
    hint = (
        "spawn it: this_proc().spawn(name, Class, params)"
        if isinstance(launcher, ProcLauncher)
        else "see procession.launchers"
    )
    raise TypeError(
        f"launcher = {_validate.shown(launcher)}: has to be None, a spawned launcher actor, a ProcLauncher subclass, or a "
        f"launcher's configuration ({hint})"
    )


def _without_output(cls: type[ProcLauncher]) -> str | None:
    return None if cls.capabilities.stdio else cls.__qualname__


def refuse_other_version(cls: type[ProcLauncher]) -> None:
    """Refuses a launcher that needs options which this version does not give."""
    from dataclasses import fields

    from procession import __version__
    from procession.launch import LaunchOptions

    unknown = sorted({*cls.requires} - {one.name for one in fields(LaunchOptions)})
    if unknown:
        raise VersionMismatch(
            f"launcher {cls.__qualname__} requires {', '.join(unknown)} in its LaunchOptions, which procession {__version__} "
            "does not give; install the version that it was written for, or one of the launcher for this version"
        )


def refuse_unable(cls: type[ProcLauncher], slots: Sequence[Slot]) -> None:
    if cls.dial_back.kind == "stdio":
        raise Unsupported(
            f"{cls.__qualname__}.dial_back = DialBack.stdio(): a launcher written in Python leads no proc to its host; use DialBack.network(bind=...), or launchers.Command"
        )
    for slot in slots:
        options = slot.options
        try:
            options["program"].decode()
        except UnicodeDecodeError:
            rule = "a launcher written in Python takes paths that are valid UTF-8; use the native launcher"
            raise InvalidArgument("program", repr(options["program"]), rule) from None
        _refuse_unconfined(cls, options["confinement"])
        if cls.capabilities.command_attributes:
            continue
        # A proc that calls back moves to its directory by itself.
        asked = {
            "clear_env": options["clear_env"],
            "env with None": bool(options["env_remove"]),
            "cwd": options["cwd"] is not None and options["readiness"] == "none",
        }
        for name, given in asked.items():
            if given:
                raise Unsupported(
                    f"{name}: {cls.__qualname__} does not honour it; if it does, say so with "
                    "capabilities = Capabilities(command_attributes=True)"
                )


def _refuse_unconfined(cls: type[ProcLauncher], confinement: dict[str, Any] | None) -> None:
    if confinement is None:
        return
    security = ("no_new_privs", "drop_all_capabilities", "drop_capabilities", "seccomp")
    asked = {
        "resources": any(confinement[key] is not None for key in ("memory", "pids", "cpu_millis")),
        "user": confinement["user"] is not None,
        "rlimits": bool(confinement["rlimits"]),
        "security": any(confinement[key] for key in security),
        "proc_bind": bool(confinement["binding"]),
    }
    for name, given in asked.items():
        if given and not getattr(cls.capabilities, name):
            raise Unsupported(
                f"{name}: {cls.__qualname__} does not honour it; if it does, say so with capabilities = Capabilities({name}=True)"
            )


def describe(mesh: ActorMesh[Any], *, own_proc: bool, refusal: str | None = None) -> dict[str, Any]:
    """The launcher that hands everything to that actor, as plain data; with a refusal it refuses every launch."""
    from dataclasses import asdict

    cls = mesh._class
    back = cls.dial_back
    return {
        "actor_id": mesh._refs[0].actor_id,
        "name": mesh._name,
        "dial_back": (back.kind, back.bind, back.advertise),
        "capabilities": asdict(cls.capabilities),
        "own_proc": own_proc,
        "refusal": refusal,
    }


_native_launchers: dict[tuple[str, str | None], Launcher] = {}


def native_from(described: dict[str, Any]) -> Launcher:
    """The same one for the same actor, because how many launches wait for it is counted there."""
    if "worker" in described:
        return worker_from(described)
    if "engine" in described:
        return engine_from(described).launcher()
    if "zygote" in described:
        return zygote_from(described)
    if "combined" in described:
        return combination_from(described)
    key = (described["actor_id"], described["refusal"])
    launcher = _native_launchers.pop(key, None)
    if launcher is None:
        launcher = runtime().actor_launcher(**described)
    _native_launchers[key] = launcher  # as the latest
    while len(_native_launchers) > MOST_LAUNCHERS:
        del _native_launchers[next(iter(_native_launchers))]
    return launcher

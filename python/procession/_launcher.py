"""Which launcher a spawn uses: the built-in one, an actor of the user's, or a class that gets a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from procession import _validate
from procession._actor import check_class
from procession._actor_mesh import ActorMesh
from procession._procs import Slot
from procession._runtime import runtime
from procession.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from procession._native import Launcher
    from procession._proc_mesh import ProcMesh
    from procession.launch import ProcLauncher


class NativeLauncher:
    """The built-in launcher: processes of this machine, as children of the host's keeper."""

    without_output: str | None = None
    """Who does not hand over the output of procs; None: it is handed over."""

    def native(self) -> Launcher | None:
        return None

    def check(self, slots: Sequence[Slot]) -> None:
        """It can do all that can be asked for."""

    def __repr__(self) -> str:
        return "launchers.native()"


class ActorLauncher:
    """A launcher written in Python: an actor that the user has spawned."""

    def __init__(self, mesh: ActorMesh[Any]) -> None:
        self._mesh = mesh
        self.without_output = _without_output(mesh._class)

    def native(self) -> Launcher | None:
        return _native_for(self._mesh, own_proc=False)

    def check(self, slots: Sequence[Slot]) -> None:
        """Refuses what the launcher says that it cannot do."""
        refuse_unable(self._mesh._class, slots)


class ClassLauncher:
    """A launcher written in Python, as a class: it runs in a process of its own, one for each class."""

    def __init__(self, cls: type[ProcLauncher]) -> None:
        self._cls = cls
        self.without_output = _without_output(cls)

    def native(self) -> Launcher | None:
        return _native_for(_spawned(self._cls), own_proc=True)

    def check(self, slots: Sequence[Slot]) -> None:
        """Refuses what the launcher says that it cannot do."""
        refuse_unable(self._cls, slots)


AnyLauncher = NativeLauncher | ActorLauncher | ClassLauncher


def resolve(launcher: Any) -> AnyLauncher:
    """What the argument `launcher` stands for; refuses what is none."""
    if launcher is None:
        return NativeLauncher()
    if isinstance(launcher, NativeLauncher):
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
        return ActorLauncher(launcher)
    if isinstance(launcher, type) and issubclass(launcher, ProcLauncher):
        check_class(launcher)
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


def refuse_unable(cls: type[ProcLauncher], slots: Sequence[Slot]) -> None:
    if cls.dial_back.kind == "stdio":
        raise Unsupported(
            f"{cls.__qualname__}.dial_back = DialBack.stdio(): not supported by this version; use DialBack.network(bind=...)"
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
    }
    for name, given in asked.items():
        if given and not getattr(cls.capabilities, name):
            raise Unsupported(
                f"{name}: {cls.__qualname__} does not honour it; if it does, say so with capabilities = Capabilities({name}=True)"
            )


_lock = threading.RLock()


class _Own(NamedTuple):
    procs: ProcMesh
    mesh: ActorMesh[Any]

    def is_usable(self) -> bool:
        """Whether its proc lives, and the class could be built there (or still may be)."""
        if self.procs.exits().item() is not None:
            return False
        built = self.mesh.initialized
        if not built.done() or built.exception() is None:
            return True
        self.procs.stop("its launcher could not be built")
        return False


_own: dict[type, _Own] = {}
_names = count(1)


def _native_for(mesh: ActorMesh[Any], *, own_proc: bool) -> Launcher:
    from dataclasses import asdict

    cls = mesh._class
    back = cls.dial_back
    reach = (back.kind, back.bind, back.advertise)
    return runtime().actor_launcher(mesh._refs[0].actor_id, mesh._name, reach, asdict(cls.capabilities), own_proc)


def _spawned(cls: type[ProcLauncher]) -> ActorMesh[Any]:
    """The launcher actor of that class, in its process; a new one when that has ended."""
    from procession._host_mesh import this_host

    with _lock:
        own = _own.get(cls)
        if own is None or not own.is_usable():
            name = _slug(cls.__name__)
            procs = this_host().spawn_procs(name=f"launcher-{name}-{next(_names)}")
            spawned: Any = procs.spawn(name, cls)
            own = _own[cls] = _Own(procs, spawned)
        return own.mesh


def _slug(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in text)[:60].strip("-") or "launcher"

"""Launchers by name: the built-in ones, and those that installed distributions declare as entry points."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from procession import _native, _validate
from procession._command import Command
from procession._docker import DOCKER_SOCKET, PODMAN_SOCKET, Docker, Podman
from procession._engines import EngineLauncher
from procession._kubernetes import Kubernetes, configured
from procession._launcher import NativeLauncher, resolve
from procession._launcher_files import from_file
from procession._session_key import session_key
from procession._slurm import Slurm, answers
from procession._ssh import Ssh
from procession._systemd import SYSTEM_BUS, Systemd, user_bus
from procession._vm import Vm
from procession._worker_launcher import WorkerLauncher
from procession.errors import InvalidArgument, Unreachable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "procession.launchers"
"""The group of entry points; each names a launcher class, or a launcher's configuration."""


@dataclass(frozen=True)
class LauncherInfo:
    """A launcher that can be named, and whether it can be used in this process."""

    name: str
    """What `by_name` takes; of a worker, with its address in place of HOST:PORT."""
    kind: Literal["built-in", "entry point"]
    status: Literal["ok", "unavailable"]
    reason: str
    """Why it is unavailable; where it is ok what its `probe` says, if it is a `Launcher` that has one."""


def _keyed() -> str:
    session_key("key", None)
    return ""


def _built(kind: str) -> str:
    if kind not in _native.features():
        raise Unreachable(f"this build has no launcher of kind {kind!r}: build it with --features engines")
    return ""


def _installed(kind: str, program: str) -> str:
    """Which program it uses."""
    _built(kind)
    found = shutil.which(program)
    if found is None:
        raise Unreachable(f"there is no {program} on the path; install it")
    return f"through {found}"


def _listens(kind: str, variable: str, default: str) -> str:
    """Where the API of an engine listens; raises Unreachable where nothing does, or where this build cannot use it."""
    _built(kind)
    host = os.environ.get(variable) or default
    if host.startswith(("unix://", "unix:path=")):
        with socket.socket(socket.AF_UNIX) as there:
            try:
                there.connect(host.removeprefix("unix://").removeprefix("unix:path=").partition(",")[0])
            except OSError as error:
                raise Unreachable(
                    f"nothing listens at {host} ({error.strerror}); start it, or set {variable}"
                ) from None
    return f"at {host}"


BUILT_IN: dict[str, Callable[[], str]] = {
    "native": lambda: "",
    "worker:HOST:PORT": _keyed,
    "docker:IMAGE": partial(_listens, "docker", "DOCKER_HOST", DOCKER_SOCKET),
    "podman:IMAGE": partial(_listens, "docker", "PODMAN_HOST", PODMAN_SOCKET),
    "ssh:HOST": partial(_installed, "ssh", "ssh"),
    "command:LINE": partial(_built, "command"),
    "kubernetes:IMAGE": configured,
    "slurm:PARTITION": answers,
    "vm:IMAGE": partial(_installed, "vm", "qemu-system-x86_64"),
    "systemd:user": lambda: _listens("systemd", "DBUS_SESSION_BUS_ADDRESS", user_bus()),
    "systemd:system": partial(_listens, "systemd", "DBUS_SYSTEM_BUS_ADDRESS", SYSTEM_BUS),
}
"""By what `by_name` takes; each raises where it cannot be used, and has something to say else, or nothing."""
ENGINES: dict[str, Callable[[str], EngineLauncher]] = {
    "docker": Docker,
    "podman": Podman,
    "ssh": Ssh,
    "command": Command,
    "kubernetes": Kubernetes,
    "slurm": Slurm,
    "vm": Vm,
}
"""By the word before the colon; what is behind it is what they are made with."""
PROBE_SECONDS = 5.0


def available() -> list[LauncherInfo]:
    """The built-in launchers, then those of installed distributions by name.

    Each is imported, and the `probe` of a `Launcher` is asked, for 5 s at most. What it raises is its reason, and touches no
    other.
    """
    infos = [LauncherInfo(name, "built-in", *_status(check)) for name, check in BUILT_IN.items()]
    taken = dict.fromkeys((name.partition(":")[0] for name in BUILT_IN), "a built-in launcher")
    for point in _entry_points():
        if point.name in taken:
            why = f"{taken[point.name]} has that name; {point.value} can be used as it is"
            infos.append(LauncherInfo(point.name, "entry point", "unavailable", why))
            continue
        taken[point.name] = "another entry point"
        infos.append(LauncherInfo(point.name, "entry point", *_status(partial(_loaded, point))))
    return infos


def by_name(name: str) -> Any:
    """What `spawn_procs(launcher=...)` takes, by its name.

    name: `"native"`; `"worker:HOST:PORT"`, with the session key of the environment; `"docker:IMAGE"`, `"podman:IMAGE"` or
        `"kubernetes:IMAGE"`; `"ssh:HOST"`; `"command:LINE"`, with `{argv}` in the line; `"slurm"` or `"slurm:PARTITION"`; `"vm:IMAGE"`;
        `"systemd"`, which is `"systemd:user"`, `"systemd:system"`, or `"systemd:ADDRESS"` of a D-Bus; the path of a file, `"gpu.toml"`, see
        `from_file`; the name of an entry point of the group `procession.launchers`; or `"module:Class"`, which is imported.

    Raises InvalidArgument, with the cause, for what is none of these or cannot be imported, and TypeError for what is no launcher.
    """
    first, colon, rest = _validate.text("name", name).partition(":")
    if name.endswith(".toml"):
        return from_file(name)
    if name == "native":
        return NativeLauncher()
    if name == "slurm":
        return Slurm()
    if first == "worker" and ":" in rest:
        return WorkerLauncher(rest)
    if rest and first in ENGINES:
        return ENGINES[first](rest)
    if first == "systemd":
        return Systemd(rest or "user")
    if first and colon and rest:
        found = _imported(name, partial(_attribute, first, rest))
    else:
        point = next((one for one in _entry_points() if one.name == name), None)
        if point is None or name == "worker" or name in ENGINES:
            known = ", ".join(dict.fromkeys([*BUILT_IN, *(one.name for one in _entry_points())]))
            _validate.refuse("name", name, f"has to be {known}, or module:Class; `procession launchers` lists them")
        found = _imported(name, point.load)
    resolve(found)
    return found


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    def order(one: EntryPoint) -> tuple[str, str]:
        return one.name, "" if one.dist is None else one.dist.name

    return sorted(entry_points(group=GROUP), key=order)


def _status(check: Callable[[], str]) -> tuple[Literal["ok", "unavailable"], str]:
    try:
        return "ok", check()
    except InvalidArgument as error:
        return "unavailable", error.rule
    except Unreachable as error:
        return "unavailable", str(error)
    except (Exception, SystemExit) as error:  # what is imported is somebody's, and may raise anything
        return "unavailable", _in_a_line(error)


def _loaded(point: EntryPoint) -> str:
    found = point.load()
    resolve(found)
    from procession.launch import Launcher

    if not (isinstance(found, type) and issubclass(found, Launcher) and found._has("probe")):
        return ""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    async def ask() -> str:
        try:
            async with asyncio.timeout(PROBE_SECONDS) as bound:
                return str(await found().probe())
        except TimeoutError as error:
            if bound.expired():
                raise Unreachable(f"its probe has got no answer within {PROBE_SECONDS:g} s") from error
            raise

    with ThreadPoolExecutor(1) as apart:  # there may be a loop in this thread
        return apart.submit(lambda: asyncio.run(ask())).result()


def _attribute(module: str, name: str) -> Any:
    from importlib import import_module

    return getattr(import_module(module), name)


def _imported(name: str, load: Callable[[], Any]) -> Any:
    """What `load` gives; its error in a line, and below it where it was raised, as far as that is in the module."""
    from traceback import format_exception

    try:
        return load()
    except (Exception, SystemExit) as error:
        at = error.__traceback__
        while at is not None and at.tb_frame.f_globals.get("__name__", "").startswith(("procession._", "importlib")):
            at = at.tb_next
        where = "" if at is None else "\n" + "".join(format_exception(type(error), error, at)).rstrip()
        rule = f"it cannot be imported: {_in_a_line(error)}{where}"
        raise InvalidArgument("name", _validate.shown(name), rule) from None


def _in_a_line(error: BaseException) -> str:
    from traceback import format_exception_only

    return format_exception_only(type(error), error)[-1].strip()

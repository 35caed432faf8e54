"""Launchers that are written down in TOML: the same classes, with the same fields."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from procession import _validate
from procession.errors import InvalidArgument


def kinds() -> dict[str, type]:
    """What `launcher` may be in a file."""
    from procession import launchers

    return {
        "chain": launchers.Chain,
        "chaos": launchers.Chaos,
        "command": launchers.Command,
        "docker": launchers.Docker,
        "fallback": launchers.Fallback,
        "kubernetes": launchers.Kubernetes,
        "podman": launchers.Podman,
        "pool": launchers.Pool,
        "retry": launchers.Retry,
        "slurm": launchers.Slurm,
        "ssh": launchers.Ssh,
        "systemd": launchers.Systemd,
        "throttle": launchers.Throttle,
        "vm": launchers.Vm,
        "worker": launchers.WorkerLauncher,
    }


def from_file(path: str | Path) -> Any:
    """The launcher that the TOML file at `path` describes: what `spawn_procs(launcher=...)` takes.

    `launcher = "docker"` says which, and each other key is one of its arguments, `image = "trainer:7"`. Those that go around others
    have these in `of`: a table, or an array of tables. InvalidArgument with the key for what is no such file.
    """
    import tomllib

    shown = str(path)
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument("launcher", repr(shown), f"it cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument("launcher", repr(shown), f"it is no TOML: {error}") from None
    return _from_table(table, shown)


def fields_of(cls: type) -> dict[str, inspect.Parameter]:
    """The arguments of a launcher by name, but for the launchers that it goes around."""
    parameters = inspect.signature(cls).parameters
    own = {name: one for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD}
    if len(own) < len(parameters):  # the others are those of its base
        own = fields_of(cls.__mro__[1]) | own
    return {name: one for name, one in own.items() if name != "launcher" and one.kind is not one.VAR_POSITIONAL}


def _from_table(table: dict[str, Any], where: str) -> Any:
    given = dict(table)
    kind, inner = given.pop("launcher", None), given.pop("of", None)
    cls = kinds().get(kind) if isinstance(kind, str) else None
    if cls is None:
        rule = f'in {where}: name one of {", ".join(kinds())}: launcher = "docker"'
        raise InvalidArgument("launcher", _validate.shown(kind), rule)
    fields = fields_of(cls)
    for key, value in given.items():
        if key not in fields:
            rule = f"in {where}: {kind} has no such key; it has {', '.join(fields)}"
            raise InvalidArgument(key, _validate.shown(value), rule)
    missing = [name for name, one in fields.items() if one.default is one.empty and name not in given]
    if missing:
        raise InvalidArgument(missing[0], "missing", f"in {where}: {kind} needs it")
    around = [inner] if isinstance(inner, dict) else inner or []
    if bool(around) != (fields.keys() < inspect.signature(cls).parameters.keys()):
        rule = f"in {where}: {kind} {'goes around no other launcher' if around else 'goes around others: give them as tables'}"
        raise InvalidArgument("of", _validate.shown(inner), rule)
    try:
        return cls(*(_from_table(one, where) for one in around), **given)
    except InvalidArgument as error:
        raise InvalidArgument(error.field, error.value, f"in {where}: {error.rule}") from None

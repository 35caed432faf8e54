"""Whether the modules of an actor's class, and of what it derives from, are the same files here and where the actor is to live.

A class that is imported by name is whatever the file says when the proc imports it, which may be later, or elsewhere.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

from procession import config
from procession.errors import SourceChanged


class Source(NamedTuple):
    """A module's file, as it was when it was imported."""

    file: str
    mtime_ns: int
    size: int
    sum: int | None
    """CRC-32 of the content; None while it is not needed, and where the file has changed since."""

    def __str__(self) -> str:
        from time import localtime, strftime

        written = strftime("%Y-%m-%d %H:%M:%S", localtime(self.mtime_ns / 1e9))
        written += f".{self.mtime_ns // 1_000_000 % 1000:03}"
        content = "its content is lost" if self.sum is None else f"CRC {self.sum:08x}"
        return f"{self.file} of {written}, {self.size} bytes, {content}"


_imported: dict[str, Source] = {}
_noted: dict[str, object] = {}
"""The specs that modules had when they were looked at; each import, and each reload, makes a new one."""


def note(name: str) -> None:
    """Called while the module of that name is imported, because it defines an actor; and when it defines others later."""
    module = sys.modules.get(name)
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if spec is None or _noted.get(name) is spec:
        return
    _noted[name] = spec
    source = None if file is None else _look(file)
    if source is None:
        _imported.pop(name, None)
    else:
        _imported[name] = source


def note_all(cls: type[Any]) -> None:
    """As `note`, for an actor's class and all that it derives from."""
    for name in _modules_of(cls):
        note(name)


def _modules_of(cls: type[Any]) -> dict[str, None]:
    """The modules that it comes from, its own first; those of the interpreter and of this package are the same everywhere."""
    names = dict.fromkeys(base.__module__ for base in cls.__mro__)
    return {name: None for name in names if name.partition(".")[0] not in _NOT_LOOKED_AT}


_NOT_LOOKED_AT = frozenset({*sys.stdlib_module_names, "procession"}) - {"__main__"}


def _look(file: str) -> Source | None:
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None  # in an archive, or gone
    return Source(file, found.st_mtime_ns, found.st_size, None)


def _of(module: str) -> Source | None:
    """The source of `module` as it was imported, with its sum if the file is still that."""
    source = _imported.get(module)
    if source is None or source.sum is not None or _look(source.file) != source:
        return source
    from zlib import crc32

    try:
        with open(source.file, "rb") as file:
            source = source._replace(sum=crc32(file.read()))
    except OSError:
        return source
    _imported[module] = source
    return source


class Stamped:
    """Arrives as the class itself, in a process that has imported it from the same source."""

    def __init__(self, cls: type[Any], sources: dict[str, Source], strict: bool) -> None:
        self._all = cls, sources, strict

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, self._all


def stamped(cls: type[Any], *, strict: bool) -> Any:
    """What to send of `cls`. Not `strict`: another source is told on stderr where it arrives, and no error."""
    from procession._pickle import travels_by_value

    sources = {}
    for base in cls.__mro__:
        module = base.__module__
        if "<locals>" in base.__qualname__ or module not in _imported or travels_by_value(module):
            continue  # it comes along, or is not known
        source = _of(module)
        if source is not None:
            sources[module] = source
    if not sources:
        return cls
    return Stamped(cls, sources, strict and os.environ.get(config.CHANGED_SOURCES_ENV) != "warn")


def _arrive(cls: type[Any], sources: dict[str, Source], strict: bool) -> type[Any]:
    for module, theirs in sources.items():
        ours = _imported.get(module)
        if ours is None or (ours.mtime_ns, ours.size) == (theirs.mtime_ns, theirs.size):
            continue
        ours = _of(module)
        if ours is None or (ours.sum is not None and (ours.sum, ours.size) == (theirs.sum, theirs.size)):
            continue  # copied to here
        error = SourceChanged(module, str(theirs), str(ours))
        if strict:
            raise error
        print(f"procession: {error}", file=sys.stderr, flush=True)
    return cls

"""Objects to messages and back: plain pickle where it suffices, cloudpickle where it does not, large buffers beside it."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from procession import _native
from procession.errors import NotPicklable

if TYPE_CHECKING:
    from procession._native import Buffer, PortRef

MOST_PARTS = 100
"""That are looked into for what cannot be pickled."""

MADE_BY_PYTHON = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "_abc_impl"})
"""Attributes of a class that are made anew where it arrives."""

OUT_OF_BAND_BYTES = 16 * 1024
"""Buffers smaller than this cost less inside the pickle."""

JOIN_APART_BYTES = 512 * 1024
"""From here on it pays to put a pickle together where its receiver can see it."""


class _Local(threading.local):
    moved: list[PortRef] | None = None


_local = _Local()


class _Pieces:
    """A file to pickle into. Large `bytes`, `bytearray` and `str` are pieces of their own, which are not copied."""

    __slots__ = ("pieces", "write")

    def __init__(self) -> None:
        self.pieces: list[bytes | bytearray] = []
        self.write = self.pieces.append

    def joined(self) -> Buffer:
        if len(self.pieces) == 1:
            return self.pieces[0]
        if sum(map(len, self.pieces)) < JOIN_APART_BYTES:
            return b"".join(self.pieces)
        return _native.join(self.pieces)


class _NeedsSource(Exception):
    """A class or function that the other side cannot import."""


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType)) and travels_by_value(obj.__module__):
            raise _NeedsSource
        return NotImplemented


def dumps(value: object, *, here: bool = False, called: str = "") -> tuple[list[Buffer], list[PortRef]]:
    """The segments of a message (the pickle, then its large buffers) and the ports met in it.

    `here`: it is read in this process, which has every class already. Raises NotPicklable, which names the part that
    cannot be sent, as one of what is `called` so.
    """
    plain = _native.dumps_plain(value)
    if plain is not None:
        return [plain], []
    try:
        return _dump(pickle.Pickler if here else _Pickler, value)
    except _NeedsSource:
        pass
    except RecursionError as error:
        raise NotPicklable(f"cannot send {_summary(value)}: it is nested too deeply to be pickled") from error
    except Exception:  # whatever a __reduce__ of the user's raises
        pass
    try:
        return _dump(_by_value_pickler(), value)
    except Exception as error:
        raise NotPicklable(_explain(value, error, called)) from error


def _cloudpickle() -> Any:
    """Loaded when something needs it: it is slower to import than all of this package."""
    import cloudpickle  # type: ignore[import-untyped]

    return cloudpickle


_pickler_by_value: Any = None


def _by_value_pickler() -> Any:
    """cloudpickle's pickler, which is told of each module met that procs cannot import."""
    global _pickler_by_value
    if _pickler_by_value is None:

        class Pickler(_cloudpickle().Pickler):  # type: ignore[misc]
            def reducer_override(self, obj: Any) -> Any:
                if isinstance(obj, (type, FunctionType)):
                    travels_by_value(obj.__module__)
                elif isinstance(obj, ModuleType):
                    travels_by_value(obj.__name__)
                return super().reducer_override(obj)

        _pickler_by_value = Pickler
    return _pickler_by_value


def dumps_whole(value: object) -> bytes:
    """One pickle with everything in it; ports cannot be."""
    payload, moved = dumps(value)
    if moved:
        raise NotPicklable("a port can only be sent to an actor")
    return pickle.dumps([bytes(part) for part in payload])


def loads_whole(data: bytes) -> Any:
    """The inverse of `dumps_whole`."""
    return loads(pickle.loads(data))


def _dump(pickler: Any, value: object) -> tuple[list[Buffer], list[PortRef]]:
    buffers: list[Buffer] = []

    def keep_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    file = _Pieces()
    outer, _local.moved = _local.moved, []
    try:
        pickler(file, protocol=5, buffer_callback=keep_inside).dump(value)
        return [file.joined(), *buffers], _local.moved
    finally:
        _local.moved = outer


def loads(payload: Sequence[Buffer]) -> Any:
    """The value of a message. Call it inside of the message's `claims()`."""
    if len(payload) == 1:
        return pickle.loads(payload[0])
    buffers = [part if not memoryview(part).readonly else bytearray(part) for part in payload[1:]]
    return pickle.loads(payload[0], buffers=buffers)


def moving(port: PortRef) -> None:
    """Notes that `port` goes into the message that is being pickled on this thread."""
    if _local.moved is None:
        raise TypeError("a port can only be pickled into a message: pass it to an endpoint or send it through a port")
    _local.moved.append(port)


_by_value: dict[str, bool] = {}
_found_by_procs: frozenset[str] | None = None
"""Where every proc that this process has launched looks for modules; None before the first."""


def path_for_procs() -> list[str]:
    """Where a proc that is launched now looks for modules, on this machine: as this process, at this moment.

    What is only found elsewhere later is not found by that proc, and travels by value.
    """
    global _found_by_procs
    path = [os.path.abspath(entry) for entry in sys.path]
    known = _found_by_procs
    _found_by_procs = frozenset(path) if known is None else known.intersection(path)
    if known is not None and known != _found_by_procs:
        _by_value.clear()
    return path


def _is_found_later(name: str) -> bool:
    """Whether a module is on the path of this process, and was not on that of a proc when it was launched."""
    if _found_by_procs is None:
        return False
    module = sys.modules.get(name.partition(".")[0])
    file = getattr(module, "__file__", None)
    if file is None:
        folders = [os.path.dirname(os.path.abspath(entry)) for entry in getattr(module, "__path__", ())]
    else:
        folder = os.path.dirname(os.path.abspath(file))
        folders = [os.path.dirname(folder) if hasattr(module, "__path__") else folder]
    if not folders or _found_by_procs.intersection(folders):
        return False
    # What a finder of its own knows is found by the same finder there.
    return any(os.path.abspath(entry) in folders for entry in sys.path)


def travels_by_value(module: str | None) -> bool:
    """Whether a launched proc could not import that module, because it is the main script or on no path."""
    if module is None or module == "__main__":
        return module is not None
    if module.partition(".")[0] in ("cloudpickle", "procession"):
        return False  # each proc has its own, or none, which it says itself
    known = _by_value.get(module)
    if known is None:
        known = _by_value[module] = not _importable(module) or _is_found_later(module)
        if known:
            _cloudpickle().register_pickle_by_value(sys.modules[module])
    return known or _registered_by_user(module)


def _registered_by_user(module: str) -> bool:
    """Whether the user told cloudpickle to send that module, or a package around it, by value."""
    cloudpickle = sys.modules.get("cloudpickle")
    registered = cloudpickle.list_registry_pickle_by_value() if cloudpickle is not None else ()
    return any(module == name or module.startswith(f"{name}.") for name in registered)


def _importable(name: str) -> bool:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not isinstance(module, ModuleType) or (file is None and not hasattr(module, "__path__")):
        return True  # built in or frozen: nothing that pickling by value would help
    parent, _, _ = name.rpartition(".")
    if parent and parent not in sys.modules:
        return False
    path = getattr(sys.modules[parent], "__path__", None) if parent else None
    if parent and (path is None or not _importable(parent)):
        return False
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:
            continue
        if spec is not None:
            if spec.origin == "frozen":
                return True  # into the interpreter, with the path of its source as its file
            # A package without a file is a namespace, and the finder has to know one of that name too.
            return spec.origin == file if file is not None else spec.submodule_search_locations is not None
    return False


def _explain(value: object, error: Exception, called: str) -> str:
    seen: dict[int, object] = {}
    path, culprit = _culprit(value, seen) or ("", value)
    where = f"{(called + path).lstrip('.')} is" if path else "it is"
    kind = type(culprit)
    what = f"{where} a {kind.__module__}.{kind.__qualname__}, which cannot be pickled ({error})"
    for one in seen.values():
        if isinstance(one, (type, FunctionType)) and one.__module__ is not None and _is_found_later(one.__module__):
            what += (
                f"; module {one.__module__} is sent along, because procs were launched before its folder was on sys.path: "
                "extend sys.path before the first launch, and it is imported there"
            )
            break
    return f"cannot send {_summary(value)}: {what}"


def _summary(value: object) -> str:
    return f"a value of type {type(value).__qualname__}"


def _culprit(value: object, seen: dict[int, object]) -> tuple[str, object] | None:
    """A part of `value`, which cannot be pickled, that cannot be either though all of its own parts can; and the path to it.

    None when there is none, or only in what was `seen` on another way to it.
    """
    seen[id(value)] = value
    to_blame = False
    for step, part in _parts(value):
        if _can_pickle(part):
            continue
        to_blame = True
        found = _culprit(part, seen) if id(part) not in seen and len(seen) < MOST_PARTS else None
        if found is not None:
            return step + found[0], found[1]
    return None if to_blame else ("", value)


def _can_pickle(value: object) -> bool:
    try:
        _dump(_by_value_pickler(), value)
    except Exception:
        return False
    return True


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{key!r}]", item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for position, item in enumerate(value):
            yield f"[{position}]", item
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            with suppress(ValueError):  # a name that is not bound yet
                yield f".<closure variable {name}>", cell.cell_contents
        for name in value.__code__.co_names:
            if name in value.__globals__:
                yield f".<global {name}>", value.__globals__[name]
    elif isinstance(value, type):
        if "<locals>" in value.__qualname__ or travels_by_value(value.__module__):
            for name, item in vars(value).items():
                if name not in MADE_BY_PYTHON:
                    yield f".{name}", item
    elif not isinstance(value, (ModuleType, BuiltinFunctionType)):
        for name, item in getattr(value, "__dict__", {}).items():
            yield f".{name}", item
        for base in type(value).__mro__:
            names = vars(base).get("__slots__", ())
            for name in (names,) if isinstance(names, str) else names:
                with suppress(Exception):  # one that was never set, or has another name outside of its class
                    yield f".{name}", getattr(value, name)

"""What goes over to a host and is read there: plain data, so that no code of who asks ever runs in the host."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from procession._native import Buffer

KINDS = (bool, int, float, str, bytes, list, tuple, dict)


class _Packer(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if obj is _plainly:
            return NotImplemented
        # What only derives from a plain type travels as that: its class is not known there.
        kinds: tuple[Any, ...] = KINDS[1:]
        for kind in kinds:
            if isinstance(obj, kind):
                return _plainly, (kind.__name__, kind(obj))
        raise TypeError(f"a {type(obj).__qualname__} is no plain data: a host takes {_names()} and None")


def _plainly(kind: str, value: Any) -> NoReturn:
    raise AssertionError("this only stands for a name, in a pickle that `loads` reads")


class _Unpacker(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, _plainly.__name__):
            return _take
        raise pickle.UnpicklingError(f"{module}.{name}: a host takes plain data only ({_names()} and None)")


def _take(kind: str, value: Any) -> Any:
    return value


def _names() -> str:
    return ", ".join(kind.__name__ for kind in KINDS)


def dumps(value: object) -> bytes:
    """Raises TypeError for what is not plain."""
    file = io.BytesIO()
    _Packer(file, protocol=5).dump(value)
    return file.getvalue()


def loads(payload: Sequence[Buffer]) -> Any:
    """The value in the first segment of a message; raises UnpicklingError for what is not plain."""
    return _Unpacker(io.BytesIO(payload[0])).load()

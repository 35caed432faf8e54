"""The session key: what machines share whose ends trust each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from procession import _native, _validate

if TYPE_CHECKING:
    from pathlib import Path

Key = bytes | str | os.PathLike[str] | _native.SessionKey | None


def session_key(field: str, given: Key) -> _native.SessionKey:
    """The key in bytes (32, or 64 hex digits), in the file of that path, or None: what the environment says.

    InvalidArgument where there is none, or where others can read it. It shows nothing of a key.
    """
    if isinstance(given, _native.SessionKey):
        return given
    if given is None:
        return _native.SessionKey.from_environment(field)
    if isinstance(given, bytes):
        return _native.SessionKey.from_bytes(field, given)
    return _native.SessionKey.read(field, os.fsdecode(_validate.path(field, given)))


def make(path: Path | None) -> str | None:
    """A new key: in a new file, or its text where none is named."""
    key = _native.SessionKey.random()
    if path is None:
        return key.text()
    key.write(path)
    return None

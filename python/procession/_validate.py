"""Every check of what users pass in. All of them run before anything starts, and say what to do instead."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, NoReturn

from procession import config
from procession.errors import InvalidArgument, LimitExceeded

MAX_ARG_BYTES = 128 * 1024
LARGEST_COUNT = 2**63 - 1
SIZE_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
"""What a letter behind a number of bytes stands for, as a power of two."""
_NAME_RULE = "use 1 to 128 of A-Z a-z 0-9 _ . -, the first a letter or a digit"


def shown(value: object) -> str:
    """A short summary of `value` for an error."""
    if isinstance(value, str):
        return '"' + _cut(repr(value)[1:-1], 40) + '"'
    if isinstance(value, (dict, list, tuple, set)):
        return f"a {type(value).__name__} of {len(value)}"
    return _cut(repr(value), 60)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"


def refuse(field: str, value: object, rule: str) -> NoReturn:
    raise InvalidArgument(field, shown(value), rule)


def name(field: str, value: object) -> str:
    """The name of a mesh, a proc or an actor."""
    if not isinstance(value, str):
        refuse(field, value, f"has to be a str; {_NAME_RULE}")
    if not 1 <= len(value) <= 128:
        refuse(field, value, f"it has {len(value)} characters; {_NAME_RULE}")
    for position, char in enumerate(value):
        allowed = char.isascii() and (char.isalnum() or (position > 0 and char in "_.-"))
        if not allowed:
            refuse(field, value, f"character {char!r} at index {position}; {_NAME_RULE}")
    return value


def count(field: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """An int (or what stands for one; never a bool) from `least` to `most`."""
    if isinstance(value, (bool, float, str)) or not hasattr(value, "__index__"):
        refuse(field, value, f"has to be an int of at least {least}")
    given = index(value)
    if given < least:
        refuse(field, value, f"has to be at least {least}")
    if most is not None and given > most:
        raise LimitExceeded(field, shown(value), f"the limit is {most}")
    return given


def shape(field: str, value: object, taken: Sequence[str] = ()) -> dict[str, int]:
    """The sizes of named dimensions, none of them called as in `taken`."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        refuse(field, value, 'has to be a dict from dimension to size, e.g. {"workers": 4}')
    if not value:
        refuse(field, value, 'name at least one dimension, e.g. {"workers": 4}, or pass None for one proc')
    sizes: dict[str, int] = {}
    for label, size in value.items():
        if not isinstance(label, str) or not label or not label.isprintable():
            refuse(f"{field} key", label, "a dimension's name has to be a printable str that is not empty")
        if label in taken:
            refuse(f"{field} key", label, "the host mesh has a dimension of that name; take another")
        sizes[label] = count(f'{field}["{label}"]', size, least=1, most=config.MAX_PROCS)
    total = math.prod(sizes.values())
    if total > config.MAX_PROCS:
        raise LimitExceeded(field, f"{total} procs", f"the limit of one mesh is {config.MAX_PROCS}")
    return sizes


def seconds(field: str, value: object) -> float:
    """A finite time: not negative, not NaN; a timedelta stands for its seconds."""
    rule = "has to be a number of seconds, 0 or more"
    if hasattr(value, "total_seconds"):
        value = value.total_seconds()
    given = number(field, value, rule)
    if math.isnan(given) or given < 0:
        refuse(field, value, rule)
    if math.isinf(given):
        refuse(field, value, f"{rule}, and finite")
    return min(abs(given), config.MAX_SECONDS)


def wait_seconds(field: str, value: object) -> float | None:
    """As `seconds`, and None or infinity for no limit."""
    if value is None or (isinstance(value, float) and value == math.inf):
        return None
    return seconds(field, value)


def tail_lines(field: str, value: object) -> int:
    """0 keeps no tail; too many are cut to the limit, with a warning."""
    lines = count(field, value)
    if lines > config.MAX_TAIL_LINES:
        warnings.warn(f"{field} = {lines}: cut to {config.MAX_TAIL_LINES}", stacklevel=4)
        return config.MAX_TAIL_LINES
    return lines


def number(field: str, value: Any, rule: str) -> float:
    """A number of any kind, NaN and infinity among them; never a bool. `rule` says what it has to be."""
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        refuse(field, value, rule)
    return float(value)


def flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        refuse(field, value, "has to be True or False")
    return value


def size(field: str, value: object) -> int:
    """Bytes: an int from 0 to 2**63-1, or a str such as "64M"."""
    given = value
    if isinstance(value, str):
        found = re.fullmatch(r"([0-9]{1,18})([KMGT]?)", value.upper())
        if found is None:
            refuse(field, value, 'has to be a number of bytes, or a str such as "64M" or "2G" (K, M, G, T)')
        given = int(found[1]) << SIZE_UNITS[found[2]]
    return large_count(field, given)


def large_count(field: str, value: object) -> int:
    """An int from 0 to 2**63-1."""
    given = count(field, value)
    if given > LARGEST_COUNT:
        refuse(field, value, f"has to be at most {LARGEST_COUNT}")
    return given


def text(field: str, value: object) -> str:
    """A str that the operating system can take: without NUL."""
    if not isinstance(value, str):
        refuse(field, value, "has to be a str")
    problem = _untakable(value)
    if problem is not None:
        refuse(field, value, problem)
    return value


def _untakable(value: str) -> str | None:
    if "\0" in value:
        return f"NUL at index {value.index(chr(0))}: the operating system cannot take it"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"lone surrogate at index {error.start}: it has no bytes to be passed as"
    return None


def path(field: str, value: object) -> bytes:
    """A path as the operating system sees it."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        refuse(field, value, "has to be a path: str, bytes or os.PathLike")
    raw = os.fsencode(value)
    if not raw:
        refuse(field, value, "a path cannot be empty")
    if b"\0" in raw:
        refuse(field, value, f"NUL at index {raw.index(0)}: the operating system cannot take it")
    return raw


def log_dir(field: str, value: object) -> bytes:
    """A directory that can be written to, absolute; made for this user alone where it is missing."""
    directory = os.path.abspath(path(field, value))
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        refuse(field, os.fsdecode(directory), f"it cannot be made: {error.strerror}; give a directory that can be")
    if os.path.islink(directory):
        refuse(field, os.fsdecode(directory), "it is a symbolic link: give the directory that it stands for")
    if not os.access(directory, os.W_OK | os.X_OK):
        refuse(field, os.fsdecode(directory), "it cannot be written to: give one that can be, or change its mode")
    return directory


def program(field: str, value: object, cwd: bytes | None) -> bytes:
    """A program: a bare name, an absolute path, or a path relative to an explicit `cwd`, made absolute."""
    raw = path(field, value)
    if b"/" not in raw or raw.startswith(b"/"):
        return raw
    if cwd is None:
        refuse(field, value, "a relative path needs cwd=; or pass an absolute one")
    return os.path.abspath(os.path.join(cwd, raw))


def args(field: str, value: object) -> list[str]:
    """Arguments after the program."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        refuse(field, value, "pass a list, one str for each argument")
    checked = []
    for position, arg in enumerate(value):
        here = f"{field}[{position}]"
        if not isinstance(arg, (str, os.PathLike)):
            refuse(here, arg, "has to be a str or a path")
        checked.append(text(here, os.fsdecode(arg)))
        _check_size(here, len(os.fsencode(checked[-1])))
    return checked


def arg0(field: str, value: object) -> str | None:
    """argv[0]; None is the last component of the program."""
    if value is None:
        return None
    if value == "":
        refuse(field, value, "cannot be empty; None is the last component of the program")
    return text(field, value)


def environment(field: str, value: object) -> tuple[dict[str, str], list[str]]:
    """What is set, and what is removed (None as a value). Errors show keys, never values."""
    if value is None:
        return {}, []
    if not isinstance(value, Mapping):
        refuse(field, type(value).__name__, "has to be a dict from str to str, or to None for what is to be removed")
    added: dict[str, str] = {}
    removed: list[str] = []
    for key, item in value.items():
        if not isinstance(key, str) or not key or "=" in key or _untakable(key):
            refuse(f"{field} key", key, "has to be a str that is not empty, without '=' and NUL")
        here = f'{field}["{key}"]'
        if key.startswith(config.RESERVED_PREFIX):
            refuse(here, "…", f"{config.RESERVED_PREFIX}* is reserved for the runtime")
        if item is None:
            removed.append(key)
        elif not isinstance(item, str):
            raise InvalidArgument(here, f"a {type(item).__name__}", "has to be a str, or None to remove the variable")
        elif (problem := _untakable(item)) is not None:
            raise InvalidArgument(here, "…", problem)
        else:
            _check_size(here, len(os.fsencode(f"{key}={item}")))
            added[key] = item
    return added, removed


def total_size(program_path: bytes, arguments: Sequence[str], env: Mapping[str, str]) -> None:
    """Refuses what the kernel would refuse for its size: arguments and environment share one limit."""
    limit = os.sysconf("SC_ARG_MAX")
    parts = [len(program_path) + 9]
    parts += [len(os.fsencode(arg)) + 9 for arg in arguments]
    parts += [len(os.fsencode(key)) + len(os.fsencode(item)) + 10 for key, item in env.items()]
    if sum(parts) > limit:
        rule = f"arguments and environment together have a limit of {limit} bytes: pass large data through an actor or a file"
        raise InvalidArgument("args and env", f"{sum(parts)} bytes", rule)


def _check_size(field: str, size: int) -> None:
    if size >= MAX_ARG_BYTES:
        rule = f"the limit of one string is {MAX_ARG_BYTES - 1} bytes: pass large data through an actor or a file"
        raise InvalidArgument(field, f"{size} bytes", rule)


def choice(field: str, value: object, allowed: Sequence[str]) -> str:
    if value not in allowed:
        refuse(field, value, "has to be " + " or ".join(f'"{one}"' for one in allowed))
    return str(value)

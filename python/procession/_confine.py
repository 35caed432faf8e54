"""What procs are held to: the forms of `resources`, `user`, `rlimits`, `security` and `proc_bind`. What they may be is checked in Rust."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from procession import _native, _validate
from procession.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from procession.launch import LaunchOptions

BINDINGS = ("cpunodebind", "membind", "physcpubind", "cpus")

_NOTHING: dict[str, Any] = {}


def confinement(
    resources: Mapping[str, Any] | None,
    user: Any,
    rlimits: Mapping[str, Any] | None,
    security: Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """What the runtime takes; None where nothing is asked for."""
    if resources is None and user is None and rlimits is None and security is None:
        return None
    asked = _known("resources", resources, ("memory", "pids", "cpu"))
    given_up = _known("security", security, ("no_new_privs", "drop_capabilities", "seccomp"))
    drop = given_up.get("drop_capabilities")
    return {
        "memory": _optional(_validate.size, 'resources["memory"]', asked.get("memory")),
        "pids": _optional(_validate.large_count, 'resources["pids"]', asked.get("pids")),
        "cpu_millis": _optional(_millis, 'resources["cpu"]', asked.get("cpu")),
        "user": None if user is None else _user(user),
        "rlimits": _rlimits(rlimits),
        "no_new_privs": _validate.flag('security["no_new_privs"]', given_up.get("no_new_privs", False)),
        "drop_all_capabilities": drop == "all",
        "drop_capabilities": [] if drop is None or drop == "all" else _names(drop),
        "seccomp": _program(given_up["seccomp"]) if "seccomp" in given_up else b"",
        "binding": {},
    }


def bindings(proc_bind: object, count: int) -> list[dict[str, str]] | None:
    """What each of the `count` procs of a host is bound to."""
    if proc_bind is None:
        return None
    if isinstance(proc_bind, (str, bytes)) or not isinstance(proc_bind, Sequence):
        _validate.refuse("proc_bind", proc_bind, 'has to be a list with a dict for each proc, e.g. [{"cpus": "0-3"}]')
    if len(proc_bind) != count:
        raise InvalidArgument(
            "proc_bind", f"a list of {len(proc_bind)}", f"has to have {count}, one for each proc of a host"
        )
    for rank, one in enumerate(proc_bind):
        for key, numbers in _known(f"proc_bind[{rank}]", one, BINDINGS).items():
            if not isinstance(numbers, str):
                _validate.refuse(f'proc_bind[{rank}]["{key}"]', numbers, 'has to be a str, e.g. "0-3,8" or "all"')
    return [dict(one) for one in proc_bind]


def bound(confined: dict[str, Any] | None, binding: dict[str, str]) -> dict[str, Any] | None:
    """`confined`, with what that proc is bound to."""
    if not binding:
        return confined
    return {**(confined or confinement({}, None, None, None) or {}), "binding": binding}


def of_options(opts: LaunchOptions) -> dict[str, Any] | None:
    """What of the options of a launch is for `supervise`."""
    resources, user, rlimits, security = opts.resources, opts.user, opts.rlimits, opts.security
    if resources:
        raise Unsupported(
            f"resources = {_validate.shown(dict(resources))}: supervise makes no control groups; hand them to what runs the "
            "program, as docker run --memory, or use the native launcher"
        )
    if user is None and not rlimits and not security and not opts.proc_bind:
        return None
    limits = {name: tuple("unlimited" if n is None else n for n in pair) for name, pair in rlimits.items()}
    given = confinement(None, None, limits, security)
    return bound(None if given is None else {**given, "user": user}, opts.proc_bind)


def _known(field: str, value: object, keys: Sequence[str]) -> Mapping[str, Any]:
    if value is None:
        return _NOTHING
    if not isinstance(value, Mapping):
        _validate.refuse(field, value, "has to be a dict; its keys are " + ", ".join(keys))
    for key in value:
        if key not in keys:
            _validate.refuse(f"{field} key", key, "known are " + ", ".join(keys))
    return value


def _optional(check: Any, field: str, value: object) -> int | None:
    return None if value is None else check(field, value)


def _millis(field: str, value: object) -> int:
    rule = "has to be a number of processors: 0.5 is half of one, 2 is two"
    number = _validate.number(field, value, rule)
    if not 0 <= number < 1e9:  # not for NaN either
        _validate.refuse(field, value, rule)
    return math.floor(number * 1000)


def _user(value: object) -> tuple[int, int, list[int]]:
    user, group = value, None
    if isinstance(value, tuple):
        if len(value) != 2:
            _user_refused(value)
        user, group = value
    for one in (user, group):
        if isinstance(one, bool) or not isinstance(one, (str, int)):
            if one is None and one is group:
                continue
            _user_refused(value)
        if isinstance(one, int) and abs(one) > _validate.LARGEST_COUNT:
            _validate.refuse("user", one, "a number of a user or a group is 0 to 4294967294")
        if isinstance(one, str):
            _validate.text("user", one)
    assert isinstance(user, (str, int))
    return _native.find_user(user, group)


def _user_refused(value: object) -> NoReturn:
    _validate.refuse("user", value, "has to be a name, a number, or (user, group)")


def _rlimits(value: object) -> dict[str, tuple[int | None, int | None]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        _validate.refuse("rlimits", value, 'has to be a dict, e.g. {"nofile": 1024} or {"core": (0, "unlimited")}')
    checked = {}
    for name, limit in value.items():
        if not isinstance(name, str):
            _validate.refuse("rlimits key", name, 'has to be a str, e.g. "nofile"')
        field = f'rlimits["{name}"]'
        pair = limit if isinstance(limit, tuple) else (limit, limit)
        if len(pair) != 2:
            _validate.refuse(field, limit, "has to be one limit, or (soft, hard)")
        checked[name] = (_limit(field, pair[0]), _limit(field, pair[1]))
    return checked


def _limit(field: str, value: object) -> int | None:
    if value == "unlimited":
        return None
    if isinstance(value, str):
        _validate.refuse(field, value, 'has to be a number, or "unlimited"')
    return _validate.large_count(field, value)


def _names(value: object) -> list[str]:
    field = 'security["drop_capabilities"]'
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        _validate.refuse(field, value, 'has to be "all", or a list of names')
    for name in value:
        if not isinstance(name, str):
            _validate.refuse(field, name, 'has to be a name, e.g. "net_raw"')
    return list(value)


def _program(value: object) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        _validate.refuse('security["seccomp"]', value, "has to be bytes: a compiled BPF program")
    if not len(value):
        raise InvalidArgument(
            'security["seccomp"]', "0 bytes", "a program has an instruction at least; leave it out for none"
        )
    return bytes(value)

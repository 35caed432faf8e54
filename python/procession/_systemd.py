"""The launcher for systemd: each proc is a transient unit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from procession import _validate
from procession._engines import EngineLauncher


class Systemd(EngineLauncher):
    """Launches each proc as a transient service of a manager of systemd on this machine.

    bus: whose units they are: "user", those of your own manager; "system"; or the address of a D-Bus where a manager is,
        `"unix:path=/run/user/1000/bus"`. DBUS_SESSION_BUS_ADDRESS and DBUS_SYSTEM_BUS_ADDRESS say where the first two are, where they
        are set.
    slice: the slice that units are in, `"training.slice"`; None is the manager's usual one.
    launches_at_once: how many units are started at the same time.
    patch: properties that are set in each unit, in the place of those that this sets or beside them, by their names on D-Bus
        (`systemctl show` lists them), with values of their types there; None takes one away: `{"Nice": 5, "IOWeight": 50}`.

    `resources` hold where the manager has the control groups for them, and are refused where not, before anything starts; `user` is
    for the system manager. `cwd`, `clear_env`, `rlimits` and `security`, but for `seccomp`, hold with both; `proc_bind` is refused.
    """

    _kind = "systemd"

    def __init__(
        self,
        bus: str = "user",
        *,
        slice: str | None = None,
        launches_at_once: int = 64,
        patch: Mapping[str, Any] | None = None,
    ) -> None:
        if _validate.text("bus", bus) not in ("user", "system") and ":" not in bus:
            _validate.refuse(
                "bus", bus, 'pass "user", "system", or the address of a D-Bus: "unix:path=/run/user/1000/bus"'
            )
        if patch is not None and not isinstance(patch, Mapping):
            _validate.refuse("patch", patch, 'pass names of properties with their values: {"Nice": 5}')
        super().__init__(
            {
                "bus": bus,
                "slice": slice,
                "launches_at_once": launches_at_once,
                "patch": dict(patch or {}),
            }
        )


SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"


def user_bus() -> str:
    """Where the bus of this user is, unless DBUS_SESSION_BUS_ADDRESS says so."""
    return f"unix:path={os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.getuid()}'}/bus"

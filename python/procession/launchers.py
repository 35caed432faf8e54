"""Configuration objects for launchers: pass one as `launcher=` to `spawn_procs`."""

from __future__ import annotations

from procession._launcher import NativeLauncher

__all__ = ["NativeLauncher", "native"]


def native() -> NativeLauncher:
    """The built-in launcher, which `launcher=None` stands for too."""
    return NativeLauncher()

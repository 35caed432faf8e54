"""Launchers for substrates, and the checks of launchers."""

from typing import final

from procession._native import Launcher
from procession._native_waiter import Waiter

@final
class Engine:
    """A substrate that procs can be launched on."""

    def launcher(self) -> Launcher: ...
    def probe(self) -> Waiter:
        """Its name and version; fails where it does not answer."""
    def interpreter(self) -> str | None:
        """What runs Python where its procs live, where that is known."""
    def list(self) -> Waiter:
        """Tuples (handle, whether it runs, whether its owner is gone or None, labels) of all that there is of procession there."""
    def remove(self, handle: str) -> Waiter: ...
    def close(self) -> Waiter:
        """Closes its connection, where what it has launched lives no longer than that."""

def connect_engine(kind: str, config: str) -> Engine:
    """Reaches the engine of that kind, as `config` says, which is JSON. LauncherUnavailable, InvalidArgument."""

def features() -> list[str]:
    """Which of its features this build has; without "conformance" it has none of the next three."""

def conformance_checks() -> list[tuple[str, str]]:
    """The name of each check of launchers, and what it is that is promised."""

def conform(launcher: Launcher | None, name: str, python: str | None, ready: list[str], patience: float) -> str:
    """Runs the check of that name, and gives what came out of it, as JSON. None is the native launcher.

    `python`: what the programs of checks are run by where procs live; None runs them by a shell. `ready`: a command that calls back,
    whose program the launcher may replace by an interpreter of its own. ValueError where there is no such check.
    """

def conformance_page(launcher: str, rows: list[str]) -> str:
    """Those rows as a page of HTML."""

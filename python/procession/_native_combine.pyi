"""Launchers made of launchers, a fake one, and its clock. Of the launchers that one is made of, None is that of this machine."""

from typing import final

from procession._native import Launcher
from procession._native_waiter import Waiter

def throttle(launcher: Launcher | None, at_once: int | None, per_second: float | None) -> Launcher:
    """Raises InvalidArgument, as those below."""

def retry(launcher: Launcher | None, times: int, pause: float) -> Launcher: ...
def fallback(launchers: list[Launcher | None]) -> Launcher:
    """InvalidArgument where they reach back in different ways."""

def chaos(
    launcher: Launcher | None,
    seed: int,
    launch_fails: float,
    exits_early: float,
    early_within: float,
    delay: float,
) -> Launcher: ...
def record(launcher: Launcher | None, file: str) -> Launcher:
    """OSError where the file cannot be written."""

def replay(file: str) -> Launcher:
    """OSError where the file cannot be read, ValueError where it is no recording."""

@final
class FakeLauncher:
    """Launches procs that are no processes."""

    def __new__(cls) -> FakeLauncher: ...
    def plays(
        self,
        name: str,
        lives: list[tuple[list[tuple[str, float, float, str]], tuple[str, float, float, str] | None]],
    ) -> None:
        """What procs of that name do, in each launch and the last for all later ones: steps (kind, seconds after the one before,
        number, text), and what terminating does: None for SIGTERM. Nothing, where there is none."""
    def launches(self, name: str) -> int: ...
    def launcher(self) -> Launcher: ...

@final
class VirtualTime:
    """Stops the clock of this process's host. RuntimeError where it was stopped already, InvalidArgument
    while a proc is being started or stopped."""

    def __new__(cls) -> VirtualTime: ...
    def elapsed(self) -> float:
        """In seconds."""
    def advance(self, seconds: float) -> Waiter:
        """Done when so much has passed."""
    def end(self) -> Waiter:
        """Kills what lives, and lets the clock go on; done then. Idempotent."""

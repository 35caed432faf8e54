"""The part of `_native` that runs processes for launchers; there is no module of this name when it runs."""

from collections.abc import Sequence
from typing import Any, final

from procession._native import Waiter

@final
class Supervised:
    @property
    def pid(self) -> int: ...
    def wait(self) -> Waiter:
        """Result: (exit_code, signal, core_dumped, failed_reason, stderr_tail, stdout_tail)."""
    def terminate(self, timeout: float) -> Waiter: ...
    def kill(self) -> Waiter: ...

def supervise(
    argv: Sequence[str],
    arg0: str | None,
    env: dict[str, str],
    cwd: str | None,
    tail_lines: int,
    log_channel: str | None,
    confinement: dict[str, Any] | None = None,
) -> Supervised:
    """Starts an OS process of this process: own session, both pipes read in bounded memory, its tree killed when it ends. Raises `OSError` naming program and cause."""

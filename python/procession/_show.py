"""The output of procs, shown on this process's own as it comes."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from procession._runtime import at_shutdown

if TYPE_CHECKING:
    from procession._logs import Logs
    from procession._proc_mesh import ProcMesh


class _Shown:
    """The lines of one mesh, on a thread that ends with its procs."""

    def __init__(self, key: tuple[str, ...], logs: Logs) -> None:
        self.on = True
        self.logs = logs
        self._key = key
        self.thread = threading.Thread(target=self._run, name="procession output", daemon=True)

    def _run(self) -> None:
        try:
            for line in self.logs:
                if self.on:
                    with suppress(OSError, ValueError):  # nobody reads, or it is closed
                        sys.stdout.write(f"{line}\n")  # in one, or lines of other meshes come in between
                        sys.stdout.flush()
        finally:
            with _lock:
                _showing.pop(self._key, None)


_lock = threading.Lock()
_showing: dict[tuple[str, ...], _Shown] = {}


def show(procs: ProcMesh, on: bool, fold: bool) -> None:
    """Shows what the procs have written and what they write, on stdout with the rank in front; or shows no more of it.

    RuntimeError where there can be no more threads.
    """
    ids = procs._procs.proc_ids(procs._bases())
    key = tuple(
        proc_id.rpartition("@")[0].rpartition(".")[0] for proc_id in ids
    )  # names, which later launches have too
    with _lock:
        shown = _showing.get(key)
        if shown is not None:
            shown.on = on
            shown.logs.fold_from_now_on(fold)
        elif on:
            shown = _Shown(key, procs.logs(follow=True, fold=True))
            shown.logs.fold_from_now_on(fold)
            shown.thread.start()
            _showing[key] = shown


def _finish(seconds: float) -> None:
    """Until what was written last is shown, `seconds` at most."""
    until = time.monotonic() + seconds
    for shown in list(_showing.values()):
        shown.thread.join(max(0.0, until - time.monotonic()))


at_shutdown(_finish)

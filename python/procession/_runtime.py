"""The runtime of this process: started by the first use, stopped when the interpreter ends."""

from __future__ import annotations

import atexit
import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from procession import _cells, _native, config

if TYPE_CHECKING:
    from procession._future import Future
    from procession._native import ProcHandle, Runtime

_lock = threading.Lock()
_at_shutdown: list[Callable[[float], None]] = []
_ending = False


def runtime() -> Runtime:
    """The runtime; a client starts here. RuntimeError in a forked child of a process that has one."""
    return _native.current() or _start()


def _start() -> Runtime:
    with _lock:
        running = _native.current()
        if running is None:
            running = _native.start_client()
            atexit.register(_at_exit)
            _cells.follow()
            _serve_host()
        return running


def start_in(directory: str | os.PathLike[str]) -> tuple[list[list[ProcHandle]], list[dict[str, Any]]]:
    """Starts the runtime of a client whose procs may outlive it, in a directory that stays.

    Gives the procs of an earlier one that were taken over, by what was spawned together, and the last exits of others.
    RuntimeError where the directory cannot be used, or this process has a runtime already.
    """
    with _lock:
        handed = _native.start_client_in(os.fspath(directory))
        atexit.register(_at_exit)
        _cells.follow()
        _serve_host()
    return handed


def _serve_host() -> None:
    from procession._host_service import serve

    try:
        serve()
    except RuntimeError as error:  # there can be no more threads: this process can launch all the same
        warnings.warn(f"procs cannot launch others through this client: {error}", stacklevel=4)


def is_launched() -> bool:
    """Whether a host has launched this process. Starts nothing."""
    running = _native.current()
    return running is not None and not running.is_client


def at_shutdown(wait: Callable[[float], None]) -> None:
    """Has `wait` called with the seconds that are left when all procs are gone."""
    _at_shutdown.append(wait)


def shutdown() -> None:
    """Stops all procs and then the actors of this process; bounded by `config.SHUTDOWN_SECONDS`. Idempotent."""
    global _ending
    running = _native.current()
    if running is None or not running.is_client:
        return
    _ending = True
    until = time.monotonic() + config.SHUTDOWN_SECONDS
    running.shutdown(config.SHUTDOWN_SECONDS * 0.75)
    for wait in _at_shutdown:
        wait(max(0.0, until - time.monotonic()))


def is_ending() -> bool:
    """Whether this client is stopping everything, so that no end of anything is a failure."""
    return _ending


def shutdown_context() -> Future[None]:
    """Stops everything that this client has launched, as the end of the interpreter does.

    It is done when it returns, after two seconds at most, on an event loop too. In a launched proc it does nothing: a
    proc is stopped by the client.
    """
    from procession._future import Future

    shutdown()
    return Future._done_with(None)


def _at_exit() -> None:
    with suppress(RuntimeError):  # a forked child ends: the runtime is its parent's
        shutdown()

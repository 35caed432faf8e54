"""The end of a process in which a failure was not handled: of a client on its main thread, as Ctrl-C would, with code 1."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from procession import _cells
from procession._answer import format_error
from procession._runtime import is_launched

if TYPE_CHECKING:
    from procession._failure import MeshFailure

# How long the main thread may take to end.
PATIENCE = 10.0


_ending = threading.Lock()
"""Held from the first failure on."""


def end_process(failure: MeshFailure, error: BaseException) -> None:
    """The hook raised `error` for `failure`. Called on another thread than the main one."""
    said = f"procession: a failure was not handled, and process {os.getpid()} ends:\n{failure.report()}\n"
    if not isinstance(error, SystemExit):
        said += f"unhandled_fault_hook raised:\n{format_error(error)}"
    print(said, file=sys.stderr, end="", flush=True)
    main = threading.main_thread()
    thread = main.ident if main.is_alive() else None
    if _is_interactive():
        # What runs there now is interrupted, and no more.
        if _cells.are_followed():
            _cells.interrupt()
        elif thread is not None and _heeds_interrupts():
            signal.pthread_kill(thread, signal.SIGINT)
        return
    if not _ending.acquire(blocking=False):
        return  # another failure has begun with it, and what runs at the end is not interrupted again
    code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
    if is_launched():
        _end_now(code)  # its main thread is that of an actor, which would take the interrupt for an end of its own
    _exit_quietly_with(code)
    if thread is not None:
        _interrupt(thread)
    _insist(code)


def _is_interactive() -> bool:
    """In a session of somebody's, who decides when it ends."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules


def _exit_quietly_with(code: int) -> None:
    """The interrupt that nobody catches is none to be shown: the report was."""
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            raise SystemExit(code)
        shown(kind, error, traceback)

    sys.excepthook = hook


def _heeds_interrupts() -> bool:
    return signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.SIG_DFL, None)


def _interrupt(thread: int) -> None:
    if _heeds_interrupts():
        signal.pthread_kill(thread, signal.SIGINT)
        return
    # Ignored, as in the background of a shell: then there is only this, and it waits for the next line of Python.
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))


def _insist(code: int) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(0.1)  # a daemon thread: it ends here when the process does
    print(f"procession: the main thread has not ended within {PATIENCE:.0f} s", file=sys.stderr, flush=True)
    _end_now(code)


def _end_now(code: int) -> NoReturn:
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, nobody reads, or it is closed
            stream.flush()
    os._exit(code)

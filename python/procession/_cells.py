"""The cells of IPython, in a notebook or a terminal: what runs in them may be interrupted, and the shell around them never.

A kernel that is interrupted while it answers sends half of its answer, and is of no use from then on.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_lock = threading.Lock()
"""Held while a cell is interrupted, and while one ends."""
_shell: Any = None
_depth = 0
"""How many cells run within one another: a cell may run others."""
_before: Callable[[int, FrameType | None], Any] | None = None
"""What handled the interrupts of the cell that runs; None while the handler is not ours."""
_is_ours = False
"""Whether the next interrupt is that of a failure. Somebody's own is for the shell to handle."""


def follow() -> None:
    """From now on it is known when a cell runs; without IPython this does nothing."""
    global _shell
    IPython = sys.modules.get("IPython")
    shell = None if IPython is None else IPython.get_ipython()
    if shell is None or shell is _shell:
        return
    _shell = shell
    shell.events.register("pre_execute", _begin)
    shell.events.register("post_execute", _end)
    if _is_in_a_cell(sys._getframe()):
        _begin()


def are_followed() -> bool:
    return _shell is not None


def interrupt() -> None:
    """What the cell does that runs, if one does. On another thread than the main one."""
    global _is_ours
    with _lock:
        if _before is not None and signal.getsignal(signal.SIGINT) is _interrupted:
            _is_ours = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _begin() -> None:
    global _before, _depth
    if threading.current_thread() is not threading.main_thread():
        return  # that of a subshell, which no signal reaches
    _depth += 1
    handler = signal.getsignal(signal.SIGINT)
    if _depth == 1 and callable(handler):
        _before = handler
        signal.signal(signal.SIGINT, _interrupted)


def _end() -> None:
    global _before, _depth
    if threading.current_thread() is not threading.main_thread():
        return
    _depth = max(0, _depth - 1)
    if _depth > 0:
        return
    with _lock:
        before, _before = _before, None
        if before is not None and signal.getsignal(signal.SIGINT) is _interrupted:
            signal.signal(signal.SIGINT, before)


def _interrupted(number: int, frame: FrameType | None) -> Any:
    global _is_ours
    is_ours, _is_ours = _is_ours, False
    before = _before or signal.default_int_handler
    if is_ours and before is signal.default_int_handler and not _is_in_a_cell(frame):
        return None  # the cell had just ended
    return before(number, frame)


def _is_in_a_cell(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals is _shell.user_global_ns:
            return True
        frame = frame.f_back
    return False

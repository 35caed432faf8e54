#!/usr/bin/env -S python3 -I -S
"""Runs one test of Rust in a process of its own, and fails it when it leaves a process behind.

    leak_gate.py EXECUTABLE ARGUMENT...

What loses its parents falls to this process, so that whatever is left of the test is a child of it in the end.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time

PATIENCE_SECONDS = 2.0
PR_SET_CHILD_SUBREAPER = 36
LEFT_BEHIND = 101  # what a failed test of Rust exits with


def descendants() -> dict[int, str]:
    """Everything below this process that is no zombie, by pid."""
    found: dict[int, str] = {}
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                name, _, rest = file.read().rpartition(")")
            state, parent = rest.split()[:2]
            if state != "Z":
                parents[int(entry)], names[int(entry)] = int(parent), name.partition("(")[2]
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                names[int(entry)] = file.read().replace(b"\0", b" ").decode(errors="replace").strip() or name
    grown = {os.getpid()}
    while grown:
        grown = {pid for pid, parent in parents.items() if parent in grown and pid not in found}
        found |= {pid: names[pid] for pid in grown}
    return found


def nothing_left(deadline: float) -> bool:
    """Reaps until there is no child any more, or no time."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)


def end(left: dict[int, str]) -> None:
    while left:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        nothing_left(time.monotonic() + 0.1)
        left = descendants()


def become(command: list[str]) -> None:
    for ignored_by_the_interpreter in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_the_interpreter, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(f"{command[0]} cannot be executed: {error.strerror}", file=sys.stderr)
        os._exit(127)


def main() -> int:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process cannot become a subreaper")
    # posix_spawn would leave signals 32 and 33 ignored.
    test = os.fork()
    if test == 0:
        become(sys.argv[1:])
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == test:
            break
    code = os.waitstatus_to_exitcode(status)
    if not nothing_left(time.monotonic() + PATIENCE_SECONDS):
        left = descendants()
        print("left behind: " + "; ".join(f"process {pid} ({what[:120]})" for pid, what in sorted(left.items())))
        end(left)
        return LEFT_BEHIND
    if code < 0:
        print(f"ended by signal {-code}")
        return 128 - code
    return code


if __name__ == "__main__":
    sys.exit(main())

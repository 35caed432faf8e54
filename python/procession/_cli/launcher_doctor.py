"""`procession doctor --launcher`: launches a probe through a launcher, and says what works there."""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from procession.actor import Actor, endpoint, this_host
from procession.launch import BootstrapCommand

if TYPE_CHECKING:
    from procession._proc_mesh import ProcMesh

Fact = tuple[str, bool, str]
"""Its name, whether it holds, and what it means."""

TOLD = "procession doctor was here"
SKEW_SECONDS = 1.0
"""Of clocks; more than that confuses whoever reads times of two machines."""


class Probe(Actor):
    """Says what it finds where it runs. What it uses is imported there."""

    @endpoint
    def now(self) -> float:
        return time.time()

    @endpoint
    def place(self) -> dict[str, Any]:
        import resource

        from procession import __version__

        limits = {}
        for path in ("memory.max", "memory/memory.limit_in_bytes"):
            with suppress(OSError, ValueError), open(f"/sys/fs/cgroup/{path}") as file:
                limits["memory"] = int(file.read())
        gpus = sorted(name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit())
        return {
            "machine": platform.node(),
            "python": platform.python_version(),
            "procession": __version__,
            "user": os.getuid(),
            "directory": os.getcwd(),
            "cpus": len(os.sched_getaffinity(0)),
            "memory": limits.get("memory"),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "gpus": gpus,
            "connected": _connected(),
        }


def _connected() -> list[str]:
    """The addresses that this process has TCP connections to; none where its host is on the other side of a unix socket."""
    own = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("socket:["):
                own.add(target[8:-1])
    found = []
    with suppress(OSError), open("/proc/self/net/tcp") as table:
        for line in table:
            words = line.split()
            if len(words) > 9 and words[9] in own and words[3] == "01":
                address, port = words[2].split(":")
                parts = [str(byte) for byte in reversed(bytes.fromhex(address))]
                found.append(f"{'.'.join(parts)}:{int(port, 16)}")
    return found


def examine(launcher: Any, timeout: float) -> Iterator[Fact]:
    """One fact after the other, as they are found."""
    probe = getattr(launcher, "probe", None)
    if probe is not None and not isinstance(launcher, type):
        yield _tried("answers", lambda: str(probe(timeout)))
    yield from _python(launcher, timeout)
    yield from _programs(launcher, timeout)


def _tried(name: str, work: Callable[[], str]) -> Fact:
    try:
        return name, True, work()
    except Exception as error:
        return name, False, f"{type(error).__name__}: {error}".strip()


def _python(launcher: Any, timeout: float) -> Iterator[Fact]:
    """A Python proc, and what it says of its place."""
    began = time.monotonic()
    try:
        procs = this_host().spawn_procs(launcher=launcher, ready_timeout=timeout)
    except Exception as error:
        yield "starts", False, f"{type(error).__name__}: {error}"
        return
    try:
        procs.initialized.get(timeout)
    except Exception as error:
        yield "reaches back", False, _why(procs, error)
        return
    try:
        yield "starts", True, f"a Python proc is ready after {time.monotonic() - began:.2f} s"
        probe = procs.spawn("probe", Probe)
        place = probe.place.call_one().get(timeout)
        through = ", ".join(place["connected"]) or "a unix socket"
        yield "reaches back", True, f"through {through}"
        yield from _facts_of(place)
        yield _clock(probe, timeout)
    except Exception as error:
        yield "answers calls", False, f"{type(error).__name__}: {error}"
    finally:
        with suppress(Exception):
            procs.stop().get(timeout)


def _facts_of(place: dict[str, Any]) -> Iterator[Fact]:
    own = sys.version_info[:2]
    same = tuple(int(part) for part in place["python"].split(".")[:2]) == own
    which = f"Python {place['python']}, procession {place['procession']}"
    yield "versions", same, which if same else f"{which}: here it is Python {own[0]}.{own[1]}; take the same there"
    yield "place", True, f"machine {place['machine']}, user {place['user']}, directory {place['directory']}"
    memory = place["memory"]
    limit = "no limit on memory" if memory is None or memory >= 1 << 60 else f"{memory >> 20} MiB of memory"
    yield "limits", True, f"{place['cpus']} processors, {limit}, {place['files']} open files"
    yield "gpus", bool(place["gpus"]), ", ".join(place["gpus"]) or "none is seen there"


def _clock(probe: Any, timeout: float) -> Fact:
    """How far its clock is from this one, as far as the quickest of some calls tells."""
    found = []
    for _ in range(10):
        before = time.time()
        there = probe.now.call_one().get(timeout)
        after = time.time()
        found.append((after - before, there - (before + after) / 2))
    took, skew = min(found)
    detail = f"{skew * 1000:+.1f} ms, within {took * 500:.1f} ms; a call takes {took * 1000:.2f} ms"
    return "clock", abs(skew) <= SKEW_SECONDS, detail


def _programs(launcher: Any, timeout: float) -> Iterator[Fact]:
    """Programs that know nothing of procession: how they end, and what they say."""

    def run(script: str) -> ProcMesh:
        command = BootstrapCommand("/bin/sh", None, ["-c", script])
        return this_host().spawn_procs(launcher=launcher, bootstrap_command=command, readiness="none")

    def code() -> str:
        [exit_] = run("exit 7").wait(timeout=timeout).get().values()
        if exit_.exit_code != 7:
            raise AssertionError(f"one that ended with code 7 is told as: {exit_.verdict}")
        return "one that ends with code 7 is told as that"

    def kill() -> str:
        procs = run("exec sleep 300")
        procs.initialized.get(timeout)
        _until_started(procs, timeout)
        procs.kill().get(timeout)
        [exit_] = procs.wait(timeout=timeout).get().values()
        if exit_.signal != signal.SIGKILL:
            raise AssertionError(f"one that was killed is told as: {exit_.verdict}")
        return "one that is killed is told as that"

    def output() -> str:
        procs = run(f"echo {TOLD}; echo {TOLD} >&2; exit 1")
        [exit_] = procs.wait(timeout=timeout).get().values()
        if TOLD not in "\n".join(exit_.stderr_tail):
            raise AssertionError(f"the last words of one are told as: {exit_.stderr_tail}")
        return "the last words of one are in its exit"

    yield _tried("codes", code)
    yield _tried("kills", kill)
    yield _tried("output", output)


def _until_started(procs: ProcMesh, timeout: float) -> None:
    """Waits for what says how far it is, such as a machine that boots: a kill before its start tells nothing of kills."""
    began = time.monotonic()
    while time.monotonic() < began + timeout:
        statuses = list(procs.statuses().values())
        is_told = any(one.progress for one in statuses)
        if all(one.handle or one.pid for one in statuses) or (not is_told and time.monotonic() > began + 1):
            return
        time.sleep(0.05)


def _why(procs: ProcMesh, error: Exception) -> str:
    """Its own last words, where it has any."""
    for exit_ in procs.exits().values():
        if exit_ is not None:
            tail = "; ".join(exit_.stderr_tail[-3:])
            return f"{exit_.verdict}{f': {tail}' if tail else ''}"
    return f"{type(error).__name__}: {error}"

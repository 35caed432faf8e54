"""The leak gate: after every test the world is as it was before it.

Processes, zombies, file descriptors, threads and sockets in the run directory are compared; what is new has two
seconds to go, and then fails the test by name. The few things that may stay are listed in one place, `Allowed`.
"""

import atexit
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import procession.actor

pytest_plugins = ["pytester"]

PATIENCE_SECONDS = 2.0
# Inherited by whatever a test starts, so that what has lost its parents is found too.
MARKER = "LEAK_GATE_SESSION"
SESSION = f"{os.getpid()}-{secrets.token_hex(8)}"


class Allowed:
    """What may outlive a test, and why."""

    # The host's keeper and the guard above it live as long as the client does.
    KEEPER = re.compile("procession-(keeper|guard)")
    # As does what it forks Python procs from.
    FORK_SERVER = re.compile(r"-m procession\._proc_main --fork-server")
    # The proc of a launcher class is kept for the next spawn with that class.
    LAUNCHER_PROC = re.compile(r"^PROCESSION_PROCESS_NAME=launcher-")
    # Its connection, its two pipes, what watches it.
    FDS_PER_LAUNCHER_PROC = 6
    # The runtime's own threads, by the names they give themselves; they stay until the client ends.
    NATIVE_THREAD = re.compile(r"^procession-")
    # pytest's own; the client's agent, which serves copies of its mesh in other processes, the holder of its controllers, and
    # the watcher of all that it has spawned, until the client ends.
    PYTHON_THREAD = re.compile(r"^(pytest|procession (agent|controllers|watcher)$)")
    # Memory that large payloads are sent in is kept for the next ones, until nobody has used it for 10 s.
    PAYLOADS = re.compile(r"^/memfd:procession-payloads")
    # A run directory holds its lock, the socket that procs call back on, and who is who for the next host.
    RUN_DIR = frozenset({"lock", "host", "record"})
    # What the proc of a launcher class notes about itself.
    FLIGHT_RECORD = re.compile(r"^flight-[0-9a-f]{32}$")


def overlook(failure: object) -> None:
    """Tests let actors and procs fail; that is not to end the process that runs them."""


def pytest_configure() -> None:
    procession.actor.unhandled_fault_hook = overlook
    # A shell starts what it runs in the background with this ignored, and so would be what the tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as nohup does
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ[MARKER] = SESSION
    # Run directories of this session's clients and of no other.
    base = os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="leak-gate-")
    # Registered before the runtime's own, and so called after it: its directory is gone by then.
    atexit.register(remove, base, os.getpid())
    # What ends here is no business of whoever runs the tests.
    os.environ["PROCESSION_STATE_DIR"] = os.path.join(base, "state")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Writes the rows of the fault matrix that a test holds into the reports, where scripts/faults.py reads them."""
    item.user_properties.extend(("fault", row) for mark in item.iter_markers("fault") for row in mark.args)


def remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # and not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Process:
    pid: int
    start: str
    what: str
    zombie: bool
    launcher: bool


def processes() -> set[Process]:
    """Everything that descends from this process, or carries its session's marker; not the process itself."""
    marker = f"{MARKER}={SESSION}".encode()
    stats: dict[int, list[str]] = {}
    environ: dict[int, bytes] = {}
    names: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                name, _, rest = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")
                stats[int(entry)], names[int(entry)] = rest.split(), name.partition("(")[2]
                environ[int(entry)] = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue  # it has just ended, or is not ours to read
    ours = {pid for pid, text in environ.items() if marker in text.split(b"\0")}
    grown = {os.getpid()}
    while grown:
        grown = {pid for pid, stat in stats.items() if int(stat[1]) in grown and pid not in ours}
        ours |= grown
    return {describe(pid, names[pid], stats[pid], environ.get(pid, b"")) for pid in ours if pid in stats}


def describe(pid: int, name: str, stat: list[str], environ: bytes) -> Process:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    launcher = any(Allowed.LAUNCHER_PROC.match(v.decode(errors="replace")) for v in environ.split(b"\0"))
    zombie = stat[0] == "Z"
    what = f"process {pid} ({(command or name)[:120]})" if not zombie else f"zombie {pid} ({name})"
    return Process(pid, stat[19], what, zombie, launcher)


def fds() -> Counter:
    found: Counter = Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the one that lists them
        if not Allowed.PAYLOADS.match(target):
            found[re.sub(r":\[\d+\]$", "", target)] += 1
    return found


def threads() -> Counter:
    """Python's by name, and how many there are that Python knows nothing of, by the name the kernel has."""
    python = {t.native_id: t.name for t in threading.enumerate()}
    found: Counter = Counter()
    for tid in os.listdir("/proc/self/task"):
        try:
            native = Path(f"/proc/self/task/{tid}/comm").read_text().strip()
        except OSError:
            continue
        name = python.get(int(tid), native)
        pattern = Allowed.PYTHON_THREAD if int(tid) in python else Allowed.NATIVE_THREAD
        if not pattern.match(name):
            found[name] += 1
    return found


def held_locks() -> list[Path]:
    """The locks of this process's own run directories."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = Path(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
        if target.name == "lock" and target.parent.name.startswith("procession-"):
            found.append(target)
    return found


@dataclass
class World:
    processes: set[Process]
    fds: Counter
    threads: Counter
    run_dir: set[Path]
    runtime: bool
    watcher: bool

    @classmethod
    def now(cls) -> "World":
        native = sys.modules.get("procession._native")
        files = {file for lock in held_locks() for file in lock.parent.iterdir() if file.name not in Allowed.RUN_DIR}
        running = native is not None and native.current() is not None
        watcher = any(thread.name == "procession watcher" for thread in threading.enumerate())
        return cls(processes(), fds(), threads(), files, running, watcher)

    def leaks(self, before: "World") -> Iterator[str]:
        """What there is more than `before`, and may not be."""
        new = {(p.pid, p.start): p for p in self.processes}
        for known in before.processes:
            new.pop((known.pid, known.start), None)
        for process in new.values():
            stays = (Allowed.KEEPER, Allowed.FORK_SERVER)
            if process.zombie or not (process.launcher or any(kind.search(process.what) for kind in stays)):
                yield process.what
        launchers = sum(p.launcher for p in new.values())

        files = self.run_dir - before.run_dir
        records = {file for file in files if Allowed.FLIGHT_RECORD.match(file.name)}
        if len(records) > launchers:
            yield f"{len(records)} flight records in the run directory"
        for file in files - records:
            yield f"{file} in the run directory"

        if self.runtime and not before.runtime:
            return  # it was started by this test, and lives on: the next ones are compared with it in place
        more_fds = self.fds - before.fds
        # The watcher has one queue.
        if more_fds.total() > launchers * Allowed.FDS_PER_LAUNCHER_PROC + (self.watcher and not before.watcher):
            yield from (f"{count} more file descriptors of {target}" for target, count in more_fds.items())
        for name, count in (self.threads - before.threads).items():
            yield f"{count} more threads named {name}"


@pytest.fixture(autouse=True)
def leak_gate(request: pytest.FixtureRequest) -> Iterator[None]:
    before = World.now()
    yield
    deadline = time.monotonic() + PATIENCE_SECONDS
    while leaks := list(World.now().leaks(before)):
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "; ".join(sorted(leaks)), pytrace=False)
        time.sleep(0.01)

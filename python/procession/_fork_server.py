"""An interpreter that procs are forked from: it has one thread, and has imported what they need.

Its other side is the keeper (`fork_server.rs`), which starts it, asks it for forks over descriptor 3, and executes a proc
instead wherever something is amiss here.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from ctypes import pythonapi
from importlib import import_module
from typing import NamedTuple, TypeVar

from procession import _gaps, _native, config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CONTROL_FD = 3
READY = b"R"
REFUSED = b"X"
HERE = b"H"
GO = b"G"
for hook in (pythonapi.PyOS_BeforeFork, pythonapi.PyOS_AfterFork_Parent, pythonapi.PyOS_AfterFork_Child):
    hook.argtypes, hook.restype = (), None
LONGEST = 4000
"""Of what is said to the keeper, in bytes."""
DESCRIPTORS = 8
OURS = config.RESERVED_PREFIX.encode()
MARK = config.LAUNCH_ID_ENV.encode()
THREADS = (
    b"OPENBLAS_NUM_THREADS",
    b"OMP_NUM_THREADS",
    b"MKL_NUM_THREADS",
    b"NUMEXPR_NUM_THREADS",
    b"VECLIB_MAXIMUM_THREADS",
)
"""What the server has of its own while it imports, as in `fork_server.rs`."""

WARM = (
    "traceback",
    "procession.actor",
    "procession._agent",
    "procession._answer",
    "procession._setup",
    "procession._value_mesh",
)
"""What no proc is without."""
LATER = ("asyncio", "cloudpickle")
"""What few are without. It takes as long as all else: so it is imported when the first proc has been forked, which imports for
itself what of it it needs, and shared by all others."""


def serve(prepare: Callable[[], None]) -> dict[str, str]:
    """Forks as it is asked to; returns in each fork, once that is what it was asked to be. The server itself ends here.

    `prepare` is called once, when all is imported. Gives the variables of its launch that are ours, but for its mark: they are
    in no environment of a fork.
    """
    control = socket.socket(fileno=CONTROL_FD)
    control.setblocking(True)
    os.set_inheritable(CONTROL_FD, False)
    try:
        template = _Template(prepare)
    except BaseException as error:  # a module that exits when it is imported, too
        with suppress(OSError):
            control.send(REFUSED + _reason(error).encode("utf-8", "backslashreplace")[:LONGEST])
        os._exit(1)
    with suppress(OSError):
        control.send(READY)
        while True:
            message, fds, _, _ = socket.recv_fds(control, 1, DESCRIPTORS)
            if not message:
                break
            if len(fds) >= 5 and _fork(fds[5] if len(fds) > 5 else None):
                control.close()
                return template.become(*fds[:5])
            for fd in fds:
                os.close(fd)
            template.complete()
    os._exit(0)  # the keeper is gone, or wants no more


def _reason(error: BaseException) -> str:
    if isinstance(error, _Unfit):
        return str(error)
    return f"the fork server could not import: {type(error).__name__}: {error}"


class _Unfit(Exception):
    """What was imported cannot be forked."""


_creator = 0
"""In a fork: the process that made it."""


def _fork(group: int | None) -> bool:
    """Whether this is the fork. It is in the group, and an orphan soon, which the keeper adopts."""
    global _creator
    made, joined = None, True
    pythonapi.PyOS_BeforeFork()
    try:
        try:
            made = _native.fork_beside(group)
        except OSError:
            joined, made = group is None, _native.fork_beside(None)
    except OSError:  # it is executed instead
        pass
    finally:
        if made is None:
            pythonapi.PyOS_AfterFork_Parent()
        else:
            pythonapi.PyOS_AfterFork_Child()
    if made is None:
        return False
    _creator = made
    if group is not None:
        if not joined:
            _or_end(lambda: _join(group))
        os.close(group)
    return True


def _join(group: int) -> None:
    entrance = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=group)
    try:
        os.write(entrance, b"0")
    finally:
        os.close(entrance)


def _or_end(step: Callable[[], T]) -> T:
    """Nothing of the user's has run yet, and the keeper executes what ends here."""
    try:
        return step()
    except BaseException:
        os._exit(127)


class _Place(NamedTuple):
    """Some of this process's memory that the kernel shows."""

    at: int
    room: int

    @classmethod
    def behind(cls, start: bytes, shown: bytes, address: int, includes_it: bool = False) -> _Place:
        found = (b"\0" + shown).find(b"\0" + start)
        if found < 0:
            raise _Unfit("the kernel does not show this process's own arguments and environment (/proc)")
        end = len(shown) - 1 if includes_it else shown.index(b"\0", found)
        at = found if includes_it else found + len(start)
        return cls(address + at, end - at)


class _Template:
    """What all forks begin with."""

    def __init__(self, prepare: Callable[[], None]) -> None:
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._zone = os.environ.get("TZ")
        self._find_places()
        del os.environ[config.PROCESS_NAME_ENV]
        modules, _, path = os.environ.pop(config.PRELOAD_ENV).partition(";")
        self._variables = dict(os.environb)
        self._extra = [name for name in THREADS if name in self._variables]
        common = [(name, value) for name, value in self._variables.items() if name not in (MARK, *self._extra)]
        self._common = b"".join(b"%b=%b\0" % variable for variable in sorted(common))
        # What modules print when they are imported is for each proc to print.
        for fd in (1, 2):
            copy = os.memfd_create("procession-printed", os.MFD_CLOEXEC)
            os.dup2(copy, fd)
            os.close(copy)
        _import(modules, [bytes.fromhex(entry).decode() for entry in path.split(",") if entry])
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError, OSError):
                stream.flush()
        self._printed = [(fd, text) for fd in (1, 2) if (text := os.pread(fd, os.fstat(fd).st_size, 0))]
        prepare()
        os.chdir("/")  # the directory of the first launch may have to go while this lives
        _check()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for name in [name for name in os.environb if name not in self._variables]:
            del os.environb[name]
        os.environb.update(self._variables)
        self._is_complete = all(name in sys.modules for name in LATER)
        _settle()

    def complete(self) -> None:
        """After the first fork: imports the rest."""
        if not self._is_complete:
            self._is_complete = True
            for name in LATER:
                with suppress(
                    Exception
                ):  # of a module of the user's that has such a name, which each proc finds for itself
                    import_module(name)
            _settle()

    def _find_places(self) -> None:
        """Where in this process's memory the kernel finds its arguments and its environment to show them."""
        with open("/proc/self/stat", "rb") as stat:
            numbers = stat.read().rpartition(b")")[2].split()
        arguments, _, environment, _ = (int(number) for number in numbers[45:49])
        with open("/proc/self/cmdline", "rb") as shown:
            line = shown.read()
        with open("/proc/self/environ", "rb") as shown:
            variables = shown.read()
        self._line = _Place.behind(config.FORK_SERVER_ARG.encode() + b"\0", line, arguments, includes_it=True)
        self._marker = _Place.behind(config.LAUNCH_ID_ENV.encode() + b"=", variables, environment)
        self._name = _Place.behind(config.PROCESS_NAME_ENV.encode() + b"=", variables, environment)

    def become(self, gate_fd: int, strings: int, cwd: int, out: int, err: int) -> dict[str, str]:
        """Makes this fork the proc that was asked for; it ends when the keeper does not want it any more."""
        ours = _or_end(lambda: self._become(strings, cwd, out, err))
        gate = socket.socket(fileno=gate_fd)
        _or_end(lambda: _wait_for_word(gate))
        gate.close()
        # Only now does somebody read it.
        for fd, text in self._printed:
            with suppress(OSError):
                _write_all(fd, text)
        return ours

    def _become(self, strings: int, cwd: int, out: int, err: int) -> dict[str, str]:
        os.setsid()
        gone, new = self._differences(_environment(os.pread(strings, os.fstat(strings).st_size, 0)))
        self._show(new)
        os.fchdir(cwd)
        os.umask(self._umask)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for fd in (strings, cwd, out, err):
            os.close(fd)
        ours = _replace(gone, new)
        if os.environ.get("TZ") != self._zone:
            time.tzset()
        _seed()
        gc.enable()
        return ours

    def _differences(self, environment: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
        """Which variables the launch has not, and which it has beside those of the server.

        Seldom are there others than ours, which lie in a row: to make an object of each would cost more than all else here.
        """
        begin = (b"\0" + environment).find(b"\0" + OURS)
        end = environment.find(b"\0", environment.rfind(b"\0" + OURS) + 1) + 1
        if environment[:begin] + environment[end:] == self._common:
            return self._extra, _variables(environment[begin:end])
        new = _variables(environment)
        return [name for name in self._variables if name not in new], new

    def _show(self, environment: dict[bytes, bytes]) -> None:
        """Before anything of the proc's is done: by its marker it is found."""
        marker = environment[MARK]
        name = environment.get(config.PROCESS_NAME_ENV.encode(), b"")
        if len(marker) != self._marker.room:
            raise _Unfit("its marker is longer than that of the server")
        memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            for place, text in ((self._marker, marker), (self._name, name), (self._line, name)):
                os.pwrite(memory, text[: place.room].ljust(place.room, b"\0"), place.at)
        finally:
            os.close(memory)
        comm = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(comm, name[:15])
        finally:
            os.close(comm)


def _write_all(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text) :]


def _settle() -> None:
    """What is there now is what forks share."""
    gc.collect()
    _gaps.fill()
    gc.freeze()


def _import(modules: str, path: list[str]) -> None:
    gc.disable()
    for name in WARM:
        import_module(name)
    if path:  # as a proc has it, which sets it anew all the same
        sys.path[:] = [entry for entry in path if os.path.exists(entry)] + [e for e in sys.path[1:] if e not in path]
    for name in filter(None, modules.split(",")):
        try:
            import_module(name)
        except BaseException as error:
            raise _Unfit(f"import {name}: {type(error).__name__}: {error}; it fails in each proc now") from error


def _check() -> None:
    """Refuses what a fork would not have, or could not use."""
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        named = ", ".join(sorted(_thread_name(thread) for thread in threads if int(thread) != os.getpid()))
        raise _Unfit(
            f"{len(threads) - 1} threads are left of what preload imports ({named}), which forks would not have; "
            "start them in __init__ of an actor instead"
        )
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    open_devices = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_device(fd)}
    if open_devices or (cuda is not None and cuda.is_initialized()):
        raise _Unfit(
            f"CUDA is in use after what preload imports ({', '.join(sorted(open_devices)) or 'torch.cuda'}), and no "
            "fork can use it then; use the device in __init__ of an actor instead"
        )


def _is_device(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(("/dev/nvidia", "/dev/kfd"))
    except OSError:
        return False


def _thread_name(thread: str) -> str:
    import threading

    for known in threading.enumerate():
        if known.native_id == int(thread):
            return known.name
    try:
        with open(f"/proc/self/task/{thread}/comm") as comm:
            return comm.read().strip()
    except OSError:
        return f"thread {thread}"


def _environment(strings: bytes) -> bytes:
    """Of a launch as `protocol.rs` writes it: the number of arguments, the order, the program, those, the environment by name."""
    count, _, _, rest = strings.split(b"\0", 3)
    return rest.split(b"\0", int(count))[-1]


def _variables(environment: bytes) -> dict[bytes, bytes]:
    return dict(entry.partition(b"=")[::2] for entry in environment.split(b"\0")[:-1])


def _replace(gone: list[bytes], new: dict[bytes, bytes]) -> dict[str, str]:
    """The server's environment by that of the launch; gives what is ours in it, which nobody else has to see."""
    ours = {}
    for name in gone:
        del os.environb[name]
    for name, value in new.items():
        if name.startswith(OURS) and name != MARK:
            ours[name.decode()] = os.fsdecode(value)
        else:
            os.environb[name] = value
    return ours


def _seed() -> None:
    """`random` does that for itself; numpy does not."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def _wait_for_word(gate: socket.socket) -> None:
    # Until the copy that made it has ended, the keeper is not its parent. As a rule it has by now.
    if os.getppid() == _creator:
        _wait_for_end(_creator)
    gate.setblocking(True)
    gate.send(HERE + os.getpid().to_bytes(4, sys.byteorder))
    if gate.recv(1) != GO:
        os._exit(127)


def _wait_for_end(parent: int) -> None:
    with suppress(OSError):
        process = os.pidfd_open(parent)
        try:
            if os.getppid() == parent:
                waiting = select.poll()
                waiting.register(process, select.POLLIN)
                waiting.poll()
        finally:
            os.close(process)

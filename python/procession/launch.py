"""Launchers written in Python: the contract, what it passes around, and a helper that runs an OS process the right way."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from procession import _confine, _native, _validate
from procession._actor import Actor, EndpointProperty, endpoint
from procession._certificate import BootTiming, Certificate, FlightRecord, StopIntent, Witness
from procession._exits import ProcExit, ProcStatus, exit_table
from procession._future import wait_for
from procession._port import Port
from procession.config import BOOTSTRAP_ENV, LOG_CHANNEL_ENV, PROCESS_NAME_ENV, RESERVED_PREFIX
from procession.errors import Unreachable, VersionMismatch

if TYPE_CHECKING:
    from procession._simple_launcher import LaunchContext, Launcher

__all__ = [
    "BOOTSTRAP_ENV",
    "LOG_CHANNEL_ENV",
    "PROCESS_NAME_ENV",
    "BootTiming",
    "BootstrapCommand",
    "Capabilities",
    "Certificate",
    "DialBack",
    "FlightRecord",
    "LaunchContext",
    "LaunchOptions",
    "Launcher",
    "LogWriter",
    "ProcExit",
    "ProcExitResult",
    "ProcLauncher",
    "ProcStatus",
    "StopIntent",
    "Supervised",
    "Unreachable",
    "Witness",
    "exit_table",
    "safe_name",
    "supervise",
]


def __getattr__(name: str) -> Any:
    """What derives from what is defined here, which is loaded when it is first used."""
    if name not in ("LaunchContext", "Launcher"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from procession import _simple_launcher

    return getattr(_simple_launcher, name)


@dataclass(frozen=True)
class Capabilities:
    """What a launcher can do. Asking for what it says that it cannot do is refused, never ignored."""

    pid: bool = False
    """It reports the pid of what it starts, and that process is on this machine. Where it did not, a note says so."""
    stdio: bool = True
    """It feeds the log channel when `want_stdio` is set. Without this `ProcMesh.logs` is refused."""
    tail: bool = True
    """It keeps the last lines of stderr itself. For readers: where it reports none, an exit has what came over the log channel."""
    tree_kill: bool = True
    """Its kill reaches the whole process tree. For readers: what can be seen from the host is killed in any case."""
    command_attributes: bool = False
    """It honours `cwd`, `clear_env` and `env_remove` of the options. Without this they are refused."""
    resources: bool = False
    """It honours `resources` of the options. Without this they are refused; `supervise` cannot do it."""
    user: bool = False
    """It honours `user` of the options, as `supervise(opts)` does. Without this it is refused."""
    rlimits: bool = False
    """It honours `rlimits` of the options, as `supervise(opts)` does. Without this they are refused."""
    security: bool = False
    """It honours `security` of the options, as `supervise(opts)` does. Without this it is refused."""
    proc_bind: bool = False
    """It honours `proc_bind` of the options, as `supervise(opts)` does. Without this it is refused."""
    folds_signals: bool = False
    """It does not tell an end by signal n from a return of 128 + n, as shells and engines do not. For readers, and for the conformance checks."""
    one_stream: bool = False
    """What a proc writes to stdout and to stderr comes as one stream, stdout. For readers, and for the conformance checks."""


@dataclass(frozen=True)
class DialBack:
    """Where the procs of a launcher live, and so how they reach back."""

    kind: Literal["local", "network", "stdio"]
    bind: str | None = None
    advertise: str | None = None

    @classmethod
    def local(cls) -> DialBack:
        """On this kernel, in this network namespace: a unix socket."""
        return cls("local")

    @classmethod
    def network(cls, bind: str, advertise: str | None = None) -> DialBack:
        """In another network namespace or on another machine: TCP with TLS.

        `bind` is `address:port`, port 0 for any; `advertise` is what the procs dial when that differs.
        """
        for name, address in (("bind", bind), ("advertise", advertise)):
            if name == "bind" or address is not None:
                _check_address(name, address, port_needed=name == "bind")
        return cls("network", bind, advertise)

    @classmethod
    def stdio(cls) -> DialBack:
        """Over the proc's own stdin and stdout."""
        return cls("stdio")


def _check_address(field_name: str, address: object, *, port_needed: bool) -> None:
    text = _validate.text(field_name, address)
    host, colon, port = text.rpartition(":")
    if not colon and not port_needed:
        host, port = text, "0"
    if not host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        _validate.refuse(field_name, text, "has to be address:port, an IPv6 address in brackets")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        _validate.refuse(field_name, text, "the port has to be a number from 0 to 65535, 0 for any")


@dataclass(frozen=True)
class BootstrapCommand:
    """What to run instead of this interpreter: `spawn_procs(bootstrap_command=...)`."""

    program: str | bytes | os.PathLike[str]
    arg0: str | None = None
    """argv[0]; None is the last component of `program`."""
    args: Sequence[str | os.PathLike[str]] = ()
    env: Mapping[str, str | None] = field(default_factory=dict, repr=False)

    def with_env(self, env: Mapping[str, str | None]) -> BootstrapCommand:
        """The same with further variables; None removes one that would be inherited."""
        return replace(self, env={**self.env, **env})


@dataclass
class LaunchOptions:
    """Everything that a launcher gets to know about one launch."""

    bootstrap_payload: str
    """Opaque; goes into the environment as `BOOTSTRAP_ENV`. It is a secret: never put it into an argument list."""
    process_name: str
    """`<proc> @ <host>`, for people; goes into the environment as `PROCESS_NAME_ENV`."""
    program: str
    arg0: str | None
    args: list[str]
    """argv[1:]."""
    env: dict[str, str]
    """What is added to the base environment."""
    want_stdio: bool
    """The output is wanted: feed the log channel."""
    tail_lines: int
    """How many lines of stderr to keep for the exit; 0 keeps none."""
    log_channel: str | None
    """For `LogWriter`; goes into the environment as `LOG_CHANNEL_ENV`, when set."""
    cwd: str | None = None
    clear_env: bool = False
    env_remove: list[str] = field(default_factory=list)
    resources: dict[str, Any] = field(default_factory=dict)
    """`memory` in bytes, `pids`, `cpu` in processors: those that are limited."""
    user: tuple[int, int, list[int]] | None = None
    """User, group and all groups; None is the launcher's own."""
    rlimits: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    """Soft and hard limit by name without `RLIMIT_`, in small letters; None is unlimited."""
    security: dict[str, Any] = field(default_factory=dict)
    """`no_new_privs`, `drop_capabilities` ("all" or a list), `seccomp` (bytes): those that are asked for."""
    proc_bind: dict[str, str] = field(default_factory=dict)
    """`cpunodebind`, `membind`, `physcpubind`, `cpus`: lists as numactl takes them, those that are given."""

    @property
    def argv(self) -> list[str]:
        """The program and its arguments; `arg0` is passed apart."""
        return [self.program, *self.args]

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of the proc: `base`, what is added to it, and the variables of the runtime.

        Without a base it is the launcher's own, less what is the runtime's. Pass {} where the substrate has its own.
        """
        if base is None:
            base = {} if self.clear_env else os.environ
        removed = set(self.env_remove)
        env = {k: v for k, v in base.items() if not k.startswith(RESERVED_PREFIX) and k not in removed}
        env.update(self.env)
        env[BOOTSTRAP_ENV] = self.bootstrap_payload
        env[PROCESS_NAME_ENV] = self.process_name
        if self.log_channel is not None:
            env[LOG_CHANNEL_ENV] = self.log_channel
        return env

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of one that another version pickled: what it lacks gets its default, and what is not known here is kept."""
        for one in fields(self):
            if one.default is not MISSING:
                state.setdefault(one.name, one.default)
            elif one.default_factory is not MISSING:
                state.setdefault(one.name, one.default_factory())
            elif one.name not in state:
                raise VersionMismatch(
                    f"these LaunchOptions come from another version of procession and lack {one.name}; install one version on "
                    "both sides"
                )
        self.__dict__.update(state)

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in ("process_name", "program", "arg0", "args")}
        shown["env keys"] = sorted(self.env)
        shown |= {name: getattr(self, name) for name in ("want_stdio", "tail_lines", "cwd", "clear_env", "env_remove")}
        shown |= {name: getattr(self, name) for name in ("resources", "user", "rlimits")}
        shown["security keys"] = sorted(self.security)
        return "LaunchOptions(" + ", ".join(f"{name}={value!r}" for name, value in shown.items()) + ")"


@dataclass
class ProcExitResult:
    """How a proc ended, as its launcher knows it. Checked where it is sent, not here.

    `failed_reason` goes before `signal`, and that before `exit_code` (0 to 255; None when nobody knows it).
    """

    exit_code: int | None
    signal: int | None
    core_dumped: bool
    failed_reason: str | None
    stderr_tail: list[str]


class ProcLauncher(Actor, ABC):
    """Starts, stops and watches procs on one substrate. Subclass it, and pass it to `spawn_procs(launcher=...)`.

    This is the whole contract; `Launcher` is the short way, which keeps most of it by itself.

    The three endpoints run concurrently, whatever they are declared as: `async def` as tasks, `def` in a thread of
    their own. `terminate` or `kill` of a proc never begins before its `launch` did. Both mean the whole process tree,
    and do nothing for a proc that has ended.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    dial_back: ClassVar[DialBack] = DialBack.local()
    requires: ClassVar[Collection[str]] = ()
    """Fields of LaunchOptions, beyond the first nine, that it cannot do without: a version that has not all is refused."""
    max_restarts: ClassVar[int] = 5
    """How often its own process may end within `restart_seconds`, and be started anew for the next launch."""
    restart_seconds: ClassVar[float] = 60.0
    _is_launcher: ClassVar[bool] = True
    _sync_in_threads: ClassVar[bool] = True
    _serves_launch: ClassVar[str] = "launch"
    """The method that is called for the endpoint."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params or {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        for name in ("launch", "terminate", "kill"):
            own = vars(cls).get(name)
            if name == "launch" and cls._serves_launch != name:
                continue  # something else is called so there
            if own is not None:
                method = own.method if isinstance(own, EndpointProperty) else own
                _check_signature(f"{cls.__qualname__}.{name}", method, getattr(ProcLauncher, name).method)
                setattr(cls, name, EndpointProperty(method, explicit=name == "launch", concurrent=True))
        super().__init_subclass__(**kwargs)
        for name, kind in (("capabilities", Capabilities), ("dial_back", DialBack)):
            if not isinstance(getattr(cls, name), kind):
                raise TypeError(f"{cls.__qualname__}.{name} has to be a {kind.__name__}, not {getattr(cls, name)!r}")
        if isinstance(cls.requires, str):
            _validate.refuse(f"{cls.__qualname__}.requires", cls.requires, "pass a tuple of names")
        _validate.count(f"{cls.__qualname__}.max_restarts", cls.max_restarts)
        _validate.seconds(f"{cls.__qualname__}.restart_seconds", cls.restart_seconds)

    if TYPE_CHECKING:
        # Not as below, because the one that an author of a `Launcher` writes takes other arguments; they are checked when the
        # class is made.
        launch: Any
    else:

        @endpoint(explicit_response_port=True)
        @abstractmethod
        async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
            """Starts a proc, and sends its exit to `exit_port` when it has ended: now or later, exactly once.

            The launch counts as acknowledged when this begins. It may await the whole life of the proc. What it raises
            becomes the exit of this launch, as a failure.
            """

    @endpoint
    @abstractmethod
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        """Asks the proc to end. It only asks: who watches the clock, and calls `kill`, is the caller."""

    @endpoint
    @abstractmethod
    async def kill(self, proc_id: str) -> None:
        """Ends the proc at once."""

    def report(
        self,
        proc_id: str,
        *,
        pid: int | None = None,
        handle: str | None = None,
        progress: str | None = None,
        unreachable: str | None = None,
    ) -> None:
        """Tells what is known about a launch: at any time, from any thread. Progress restarts the ready deadline.

        `unreachable` says why its substrate cannot be asked: the proc is then unknown, and lost when that lasts longer than
        the `unknown_budget` of its spawn. Any later report, also one of nothing, says that it can be asked again.
        """
        if unreachable is None:
            _native.report_launch(proc_id, pid, handle, progress)
            return
        if (pid, handle, progress) != (None, None, None):
            _validate.refuse("unreachable", unreachable, "report nothing else along with it")
        _native.report_unreachable(proc_id, _validate.text("unreachable", unreachable))


def _check_signature(name: str, method: Any, contract: Any) -> None:
    """TypeError unless `method` can be called with the arguments of `contract`, by position."""
    expected = signature(contract)
    try:
        given = signature(method)
        given.bind(*expected.parameters)
    except ValueError:  # it has no signature that could be known
        return
    except TypeError as error:
        names = ", ".join(expected.parameters)
        raise TypeError(
            f"{name}{given} cannot be called as {name}({names}): {error}; write it with these parameters"
        ) from None


class LogWriter:
    """Feeds a proc's output to whoever wants it: `LogWriter(opts.log_channel)`. Without a channel it drops it."""

    _tail_lines = 0
    """That are wanted of the stderr of what it runs."""

    def __init__(self, log_channel: str | None) -> None:
        self._log_channel = log_channel
        self._port = None if log_channel is None else _native.log_port(log_channel)

    def stdout(self, data: bytes) -> None:
        """Any piece of output; lines are put together at the receiver. Never blocks on it."""
        self._send("stdout", data)

    def stderr(self, data: bytes) -> None:
        self._send("stderr", data)

    async def run(self, argv: Sequence[str | os.PathLike[str]]) -> None:
        """Runs a command whose output is the proc's, such as `docker logs --follow NAME`, to its end; killed when this is cancelled.

        It is read no faster than its output is taken. Raises OSError where it cannot be started.
        """
        words = _validate.args("argv", argv)
        native = _native.supervise(words, None, dict(os.environ), None, self._tail_lines, self._log_channel, None)
        process = Supervised(native)
        try:
            await process.wait()
        finally:
            await process.kill()
            self._keep_tail((await process.wait()).stderr_tail)

    def _keep_tail(self, lines: list[str]) -> None:
        """Nobody asks for it here."""

    def _send(self, stream: str, data: bytes) -> None:
        if self._port is not None and data:
            self._port.send_log(stream, data)


class Supervised:
    """An OS process that `supervise` runs."""

    def __init__(self, native: _native.Supervised) -> None:
        self._native = native
        self._waiter = native.wait()

    @property
    def pid(self) -> int:
        return self._native.pid

    async def wait(self) -> ProcExitResult:
        """How it ended; the same for everybody who asks. Cancel safe."""
        code, signal, core_dumped, failed_reason, stderr_tail, _ = await wait_for(self._waiter)
        return ProcExitResult(code, signal, core_dumped, failed_reason, list(stderr_tail))

    async def terminate(self, timeout: float) -> None:
        """Sends SIGTERM to its tree, and SIGKILL to what is left after `timeout` seconds."""
        await wait_for(self._native.terminate(_validate.seconds("timeout", timeout)))

    async def kill(self) -> None:
        """Sends SIGKILL to its whole tree."""
        await wait_for(self._native.kill())


async def supervise(
    opts: LaunchOptions | None = None,
    *,
    argv: Sequence[str | os.PathLike[str]] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    tail_lines: int | None = None,
) -> Supervised:
    """Runs the OS process that `opts` asks for; `argv`, `env` and `cwd` stand for what they name in it.

    It is another user, has limits and gives up rights as `opts` says; limits on `resources` are refused. It gets a session of its own; both pipes are read in bounded memory, whoever else holds them; when it ends, its
    whole tree does. Raises OSError, naming program and cause, when it cannot be started.
    """
    if opts is None and argv is None:
        raise TypeError("supervise needs opts, or argv")
    if argv is None:
        assert opts is not None
        words = opts.argv
    else:
        words = _validate.args("argv", argv)
        if not words:
            _validate.refuse("argv", argv, "name a program")
    if env is None:
        env = opts.environment() if opts is not None else dict(os.environ)
    if cwd is None and opts is not None:
        cwd = opts.cwd
    if tail_lines is None:
        tail_lines = opts.tail_lines if opts is not None else 100
    channel = opts.log_channel if opts is not None and opts.want_stdio else None
    arg0 = opts.arg0 if opts is not None and argv is None else None
    directory = None if cwd is None else os.fsdecode(cwd)
    lines = _validate.tail_lines("tail_lines", tail_lines)
    confined = None if opts is None else _confine.of_options(opts)
    return Supervised(_native.supervise(words, arg0, dict(env), directory, lines, channel, confined))


def safe_name(proc_id: str) -> str:
    """`proc_id` in a form safe as a container, unit, job or file name: `[a-z0-9-]`, at most 63 characters, unique."""
    return _native.safe_name(proc_id)

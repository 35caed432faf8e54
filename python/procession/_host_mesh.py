"""Meshes of hosts, and this process: where everything starts."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, Self

from procession import _pickle, _validate, config
from procession._combinators import leaves_of
from procession._confine import bindings, bound, confinement
from procession._context import current_instance
from procession._engines import EngineLauncher
from procession._future import Future, gather, refuse_on_event_loop, then
from procession._launcher import NativeLauncher, resolve
from procession._owned import add_to
from procession._pool import substrates_of
from procession._proc_mesh import ProcMesh
from procession._procs import OtherProcs, Procs, Slot, check_output, launch
from procession._remote import RemoteProcs, launch_through_host
from procession._runtime import is_launched, runtime, shutdown_context
from procession._setup import modules_of, setup_of
from procession._shape import Extent, Mesh, Point, Region
from procession._value_mesh import ValueMesh
from procession._worker_launcher import WorkerLauncher
from procession._zygote import Zygote
from procession.errors import InvalidArgument, LauncherUnavailable, Unsupported

if TYPE_CHECKING:
    from procession._exits import ProcExit
    from procession._launcher import AnyLauncher
    from procession._native import Subscription
    from procession._restart import Restart, When
    from procession._setup import Setup
    from procession.launch import BootstrapCommand

    Command = BootstrapCommand | Sequence[str | os.PathLike[str]]

Environment = Mapping[str, str | None]

PROC_ARGS = ("-m", "procession._proc_main")

_meshes = count(1)


class HostMesh(Mesh):
    """Machines that procs can be launched on: this one, or others, see `hosts_from_launcher` and `attach_to_workers`.

    As a context manager, sync or async, it stops its hosts at the end.
    """

    def __init__(
        self,
        region: Region,
        follower: Subscription | None = None,
        command: BootstrapCommand | None = None,
        hosts: ProcMesh | None = None,
        workers: Sequence[WorkerLauncher] = (),
    ) -> None:
        self._own_region = region
        self._follower = follower
        self._command = command
        self._hosts = hosts
        """The procs that are the hosts, as a whole; None for the host of this process."""
        self._workers = workers
        """Where they were attached to, by rank of the whole; none elsewhere."""

    @property
    def _region(self) -> Region:
        return self._own_region

    def _with_region(self, region: Region) -> HostMesh:
        return HostMesh(region, self._follower, self._command, self._hosts, self._workers)

    def _followed_by(self, follower: Subscription) -> HostMesh:
        """These hosts, with a subscription that hears of the next spawn from its very beginning."""
        return HostMesh(self._own_region, follower, self._command, self._hosts, self._workers)

    def with_python_executable(self, python_executable: str | os.PathLike[str]) -> HostMesh:
        """These hosts, which launch their procs with that interpreter, unless a `bootstrap_command` says otherwise."""
        from procession.launch import BootstrapCommand

        program = os.fspath(python_executable)
        _validate.program("python_executable", program, None)
        command = BootstrapCommand(program, arg0=program, args=PROC_ARGS)
        return HostMesh(self._own_region, self._follower, command, self._hosts, self._workers)

    @property
    def initialized(self) -> Future[Literal[True]]:
        """Done when all hosts are there; raises LaunchFailed as soon as one cannot be any more."""
        if self._hosts is None:
            return Future._done_with(True)
        return self._hosts._with_region(self._own_region).initialized

    def exits(self) -> ValueMesh[ProcExit | None]:
        """How hosts that were launched have ended, None where one is there."""
        if self._hosts is None:
            return ValueMesh(self.extent, [None])
        return self._hosts._with_region(self._own_region).exits()

    def stop(self, reason: str | None = None) -> Future[None]:
        """Ends these hosts and all that they have launched: the procs first, which clean up as in `ProcMesh.stop`.

        Of the host of a client it ends what that has launched. Done when all have ended.
        """
        if self._hosts is not None:
            stopped = self._hosts._with_region(self._own_region).stop(reason)
            return then(stopped, lambda: self._leave_workers(WorkerLauncher.close))
        if is_launched():
            rule = "it was launched by a client, which stops it; stop the procs instead"
            raise Unsupported(f"{self!r} is the host of this proc: {rule}")
        return shutdown_context()

    def shutdown(self) -> Future[None]:
        """As `stop`; workers that were attached to are ended too, where they serve until that (`run_worker_loop_until_shutdown`)."""
        if self._hosts is None:
            return self.stop()
        stopped = self._hosts._with_region(self._own_region).stop("shut down by client")
        return then(stopped, lambda: self._leave_workers(_end_worker))

    def _leave_workers(self, leave: Callable[[WorkerLauncher], Future[None]]) -> Future[None]:
        left = [leave(self._workers[base]) for base in self._own_region.base_ranks()] if self._workers else []
        return gather(left, lambda: None)

    def __enter__(self) -> Self:
        refuse_on_event_loop("with", "use `async with`")
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop("end of its with block").get()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop("end of its with block")

    def _nodes(self) -> list[str]:
        """Whom to ask, by rank."""
        if self._hosts is None:
            return [runtime().host_node]
        return self._hosts._procs.proc_ids(list(self._own_region.base_ranks()))

    def _each(self) -> list[HostMesh]:
        """Each of the hosts alone, by rank."""
        return [self._with_region(Region((), (), (), base)) for base in self._own_region.base_ranks()]

    def spawn_procs(
        self,
        per_host: dict[str, int] | None = None,
        bootstrap: Setup | None = None,
        name: str | None = None,
        *,
        bootstrap_command: Command | Callable[[Point], Command] | None = None,
        proc_bind: Sequence[Mapping[str, str]] | None = None,
        launcher: Any = None,
        readiness: Literal["call_back", "none"] = "call_back",
        env: Environment | Callable[[Point], Environment] | None = None,
        clear_env: bool = False,
        cwd: str | os.PathLike[str] | None = None,
        user: str | int | tuple[str | int, str | int] | None = None,
        rlimits: Mapping[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        security: Mapping[str, Any] | None = None,
        restart: When | Restart | None = None,
        preload: Sequence[str] = (),
        fork_server: bool = True,
        ready_timeout: float = config.READY_TIMEOUT,
        stop_grace: float = config.STOP_GRACE,
        ack_timeout: float = config.ACK_TIMEOUT,
        unknown_budget: float = config.UNKNOWN_BUDGET,
        lease: float = config.LEASE,
        tail_lines: int = config.TAIL_LINES,
        log_dir: str | os.PathLike[str] | None = None,
        log_max_bytes: int | None = None,
        log_keep: int = config.LOG_KEEP,
        on_owner_loss: Literal["kill", "detach"] = "kill",
    ) -> ProcMesh:
        """Launches procs on every host and returns at once; where hosts were launched, as soon as all of them are there.

        It raises for its arguments only. How launches went is in `initialized` (which raises), `exits()` and `wait()`.

        What an actor spawns belongs to it, and is stopped before its `__cleanup__` runs. In a launched proc the host is
        asked, and waited for, also on an event loop; what is spawned there outside of actors ends with the proc.

        per_host: the shape of the procs of each host, `{"gpus": 4}`; None is one proc.
        bootstrap: called in each proc, sync or async, before any actor is built.
        preload: modules that each proc imports before it is ready, and before `bootstrap` is called, in this order.
        fork_server: procs of the native launcher, and of a `launchers.Zygote`, that run this interpreter are forked from one that has imported the runtime and
            `preload` already, once for all of them: in a few milliseconds, and with that memory shared. What a fork cannot be
            given is executed as ever, and False does that always: what is detached or confined (user, rlimits, resources, security,
            proc_bind), other programs, and where `preload` leaves threads or uses CUDA.
        bootstrap_command: what to run instead of this interpreter, as a `launch.BootstrapCommand` or a list of words; or
            a callable that is asked for each point.
        launcher: None or `launchers.native()`, a launcher actor, or a `ProcLauncher` subclass, which then gets a
            process of its own; or a configuration of `procession.launchers`.
        readiness: "none" for programs that never call back; they host no actors.
        env: what is added to the launcher's environment, None removes; or a callable that is asked for each point.
        clear_env: start from an empty environment instead of the launcher's.
        restart: "on_failure" or "always" launches procs again that end, 3 times in a minute at most; a `procession.Restart`
            says more. None and "never" do not.
        user: a name, a number, or (user, group), with that group alone. Its programs and modules have to be readable for it.
        rlimits: limits of the kernel on each process: `{"nofile": 1024, "core": (0, "unlimited")}`, soft and hard.
        resources: what each proc may use together with all that it starts: `{"memory": "64M", "pids": 100, "cpu": 0.5}`.
            Beyond its memory the kernel kills (`ProcExit.oom`), beyond its pids forks fail, beyond its cpu it waits.
        proc_bind: for each proc of a host, what it runs on: `{"cpus": "0-3,8"}`, `{"physcpubind": "all"}` or the processors of
            NUMA nodes, `{"cpunodebind": "0"}`, all of which hold together; and `{"membind": "0"}`, where its memory comes from.
            What it starts is bound too.
        security: what it gives up for good: `{"no_new_privs": True, "drop_capabilities": "all" or a list of names,
            "seccomp": a compiled BPF program, which implies no_new_privs}`.
            What this machine or the launcher cannot do of these is refused: `procession doctor` tells.
        ready_timeout: seconds from the acknowledged launch to the call back, after which the proc is killed.
        stop_grace: seconds for each step of a stop.
        ack_timeout: seconds for the launcher to acknowledge a launch.
        unknown_budget: seconds for a launcher that says it cannot ask about a proc; then the proc counts as lost.
        lease: seconds that a proc which is reached over TCP may be without a connection before it has ended; meanwhile its
            status is unknown, and messages wait. With 0 it ends with its connection.
        tail_lines: last lines of each stream that are kept for the exit.
        log_dir: all output goes to files there too, byte for byte: `<name>.<incarnation>.out` and `.err`. It is made,
            for this user alone, when it is missing. What cannot be written is counted in the exit.
        log_max_bytes: a file that would get longer is put aside as `.1`, `.2`, …; None never does that.
        log_keep: how many that were put aside are kept of each stream.
        on_owner_loss: "detach" lets procs live on when this process ends, for the next one that calls `reattach` with the
            same directory, as this one did before; with a log_dir. Their restart policy goes on then too. With the native
            launcher, Docker, Podman, Slurm and Systemd; refused with others, and for what belongs to an actor or a proc.
        """
        again = _policy(restart)
        is_here = self._hosts is None
        sizes = _validate.shape("per_host", per_host, taken=self._own_region.labels)
        extent = Extent([*self._own_region.labels, *sizes], [*self._own_region.sizes, *sizes.values()])
        mesh_name = unlike_others("procs", next(_meshes)) if name is None else _validate.name("name", name)
        _validate.name("name", f"{mesh_name}-{extent.nelements - 1}")
        # Absolute, because it is entered by the launcher and by the proc, and theirs may be another.
        directory = None if cwd is None else os.path.abspath(_validate.path("cwd", cwd))
        instance = current_instance()
        chosen = resolve(launcher)
        modules = modules_of("preload", preload)
        leaves = leaves_of(chosen)
        if readiness == "call_back" and bootstrap_command is None:
            modules = [*(module for leaf in leaves if isinstance(leaf, Zygote) for module in leaf.preload), *modules]
        common: dict[str, Any] = {
            "clear_env": _validate.flag("clear_env", clear_env),
            "cwd": directory,
            "readiness": _validate.choice("readiness", readiness, ("call_back", "none")),
            "setup": setup_of(bootstrap, modules),
            "sys_path": _pickle.path_for_procs(),
            "ready_timeout": _validate.seconds("ready_timeout", ready_timeout),
            "stop_grace": _validate.seconds("stop_grace", stop_grace),
            "ack_timeout": _validate.seconds("ack_timeout", ack_timeout),
            "unknown_budget": _validate.seconds("unknown_budget", unknown_budget),
            "lease": _validate.seconds("lease", lease),
            "tail_lines": _validate.tail_lines("tail_lines", tail_lines),
            "want_stdio": True,
            "confinement": confinement(resources, user, rlimits, security),
            "log": _log(log_dir, log_max_bytes, log_keep, is_here),
            "detach": _validate.choice("on_owner_loss", on_owner_loss, ("kill", "detach")) == "detach",
            "mesh": json.dumps([mesh_name, extent.labels, extent.sizes]),
        }
        if common["setup"] and readiness == "none":
            given = ("bootstrap", "a callable") if bootstrap is not None else ("preload", _validate.shown(preload))
            raise InvalidArgument(*given, 'a program that never calls back (readiness="none") cannot run it')
        if common["detach"] and not is_here:
            rule = "what a host that was launched runs ends with it"
            raise InvalidArgument("on_owner_loss", '"detach"', rule)
        if common["detach"] and (is_launched() or instance is not None):
            owner = f"actor {instance.actor_id}" if instance is not None else f"proc {runtime().proc_id}"
            rule = f"what {owner} spawns belongs to it, and ends with it; let the client spawn what is to outlive it"
            raise InvalidArgument("on_owner_loss", '"detach"', rule)
        has_own_files = any(isinstance(one, EngineLauncher) for one in substrates_of(chosen))
        is_native = all(isinstance(leaf, NativeLauncher) for leaf in leaves)
        shares_files = is_native or (readiness == "call_back" and not has_own_files)
        if cwd is None and is_here and shares_files:
            common["cwd"] = _own_directory()
        is_forked = _validate.flag("fork_server", fork_server) and readiness == "call_back"
        is_forked = is_forked and os.environ.get(config.FORK_SERVER_ENV) != "off"
        is_ours = bootstrap_command is None and readiness == "call_back"
        bound_to = bindings(proc_bind, math.prod(sizes.values()))
        inherited = {} if clear_env else dict(os.environ)
        slots = []
        for rank in range(extent.nelements):
            point = Point(rank, extent)
            command = bootstrap_command(point) if callable(bootstrap_command) else bootstrap_command
            if command is None:
                command = self._command
            program, arg0, args, own_env = _command(command, directory)
            asked = env(point) if callable(env) else env
            added, removed = _validate.environment("env", _merged(own_env, asked))
            _validate.total_size(program, args, {**inherited, **added})
            # Another host has an interpreter of its own, maybe elsewhere.
            is_theirs = command is None and not is_here
            own = {
                "program": None if is_theirs else program,
                "arg0": arg0,
                "args": args,
                "env": added,
                "env_remove": removed,
                # Where the interpreter is another one, it has to be known that one is meant.
                "preload": modules if is_ours and (is_forked or has_own_files) else None,
            }
            if bound_to is not None:
                own["confinement"] = bound(common["confinement"], bound_to[rank % len(bound_to)])
            slots.append(Slot(f"{mesh_name}-{rank}", rank, {**common, **own}))
        if isinstance(chosen, Zygote):
            chosen = chosen.fit_for(slots)
        chosen.check(slots)
        if log_dir is not None:
            check_output(chosen)
        self._before_launch(slots, chosen)
        who = f"proc {runtime().proc_id}" if instance is None else f"actor {instance.actor_id}"
        belongs_to = (runtime().proc_id, who) if is_launched() else None
        procs: Procs
        if not is_here:
            procs = self._launch_on_each(slots, chosen, again, belongs_to)
        elif belongs_to is None:
            procs = launch(slots, chosen, again, self._follower)
        elif runtime().host_node == runtime().proc_id and not runtime().is_host:
            raise Unsupported(
                "this interpreter is embedded in a program with a node of its own: launch procs from there"
            )
        else:
            procs = launch_through_host(slots, chosen, again, belongs_to)()
        mesh = ProcMesh(mesh_name, procs, Region.dense(extent), hosts_actors=readiness == "call_back")
        if instance is not None:
            add_to(instance, mesh)
        return mesh

    def _before_launch(self, slots: Sequence[Slot], launcher: AnyLauncher) -> None:
        """Where everything is settled, and nothing launched."""

    def _launch_on_each(
        self, slots: Sequence[Slot], launcher: AnyLauncher, restart: Restart | None, owner: tuple[str, str] | None
    ) -> Procs:
        from procession._hosted import HostedProcs

        since = time.time()
        there = self.initialized
        if not there.done():
            refuse_on_event_loop(
                "the wait for hosts that are not there yet", "await hosts.initialized before spawn_procs"
            )
        there.get()
        hosts = self._each()
        per_host = len(slots) // len(hosts)
        asked: list[Callable[[], RemoteProcs]] = []
        parts: list[RemoteProcs] = []
        failure: BaseException | None = None
        try:
            for place, host in enumerate(hosts):
                own = slots[place * per_host : (place + 1) * per_host]
                asked.append(launch_through_host(own, launcher, restart, owner, host))
        except BaseException as error:
            failure = error
        for launched in asked:
            try:
                parts.append(launched())
            except BaseException as error:
                failure = failure or error
        if failure is not None:
            for part in parts:
                part.stop(range(per_host), "another host could not launch its part")
            raise failure
        procs = HostedProcs(self, parts, per_host, since)
        procs.follow_ends()
        return procs

    def __repr__(self) -> str:
        return f"<HostMesh {self.extent!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return HostMesh, (self._own_region, None, self._command, self._hosts)


def _end_worker(worker: WorkerLauncher) -> Future[None]:
    try:
        asked = worker.shutdown_worker()
    except LauncherUnavailable:  # it has ended
        return worker.close()
    # One that serves for ever does not end, and is left.
    return then(asked, worker.close, whatever=True)


def default_bootstrap_cmd() -> BootstrapCommand:
    """What a proc is when nothing else is asked for: this interpreter, which calls back. `with_env` gives it variables."""
    from procession.launch import BootstrapCommand

    return BootstrapCommand(sys.executable, arg0=sys.executable, args=PROC_ARGS)


def unlike_others(name: str, number: int) -> str:
    """A name for what this process spawns that no other process of the host has given."""
    if not is_launched():
        return f"{name}-{number}"
    launch_id = runtime().proc_id.rpartition("@")[0].rpartition(".")[2]
    return f"{name}-{launch_id[:8]}-{number}"


def _own_directory() -> bytes | None:
    """Where this process is, if that is not where its host starts what it launches."""
    if is_launched():
        with suppress(OSError):  # it is gone
            return os.fsencode(os.getcwd())
    return None


def this_host() -> HostMesh:
    """The machine that this process runs on."""
    return HostMesh(Region.dense(Extent([], [])))


def this_proc() -> ProcMesh:
    """This process, as a mesh of one; its actors live in threads of it."""
    node = runtime()
    # A region of its own rank, so that an actor's place is found in the same way everywhere.
    region = Region((), (), (), node.rank)
    return ProcMesh("this_proc", OtherProcs(region, [node.proc_id]), region)


def _command(command: Command | None, cwd: bytes | None) -> tuple[bytes, str | None, list[str], Environment]:
    if command is None:
        # An interpreter finds the virtual environment that it belongs to by the path in its argv[0].
        return os.fsencode(sys.executable), sys.executable, list(PROC_ARGS), {}
    from procession.launch import BootstrapCommand

    if isinstance(command, BootstrapCommand):
        program = _validate.program("program", command.program, cwd)
        return program, _validate.arg0("arg0", command.arg0), _validate.args("args", command.args), command.env
    if isinstance(command, (str, bytes)) or not isinstance(command, Sequence) or not command:
        _validate.refuse("bootstrap_command", command, "pass a list that names a program, one str for each word")
    return _validate.program("program", command[0], cwd), None, _validate.args("args", command[1:]), {}


def _merged(base: Environment, added: Any) -> Any:
    if added is None:
        return base
    return {**base, **added} if isinstance(added, Mapping) else added


def _log(directory: Any, max_bytes: Any, keep: Any, is_here: bool) -> tuple[bytes, int | None, int] | None:
    if max_bytes is not None:
        max_bytes = _validate.count(
            "log_max_bytes", max_bytes, least=config.MIN_LOG_BYTES, most=_validate.LARGEST_COUNT
        )
    keep = _validate.count("log_keep", keep, most=config.MAX_LOG_KEEP)
    if directory is not None:
        if not is_here:  # the other host makes it
            return os.path.abspath(_validate.path("log_dir", directory)), max_bytes, keep
        return _validate.log_dir("log_dir", directory), max_bytes, keep
    if max_bytes is not None:
        raise InvalidArgument("log_max_bytes", str(max_bytes), "give the directory of the files too, with log_dir")
    return None


def _policy(restart: object) -> Restart | None:
    if restart is None:
        return None
    from procession._restart import resolve as resolve_restart

    return resolve_restart(restart)

"""The Rust runtime. Every call that waits releases the interpreter; nothing here calls into Python from a thread of its own."""

from collections.abc import Sequence
from typing import Any, Final, final

from procession._future import Future
from procession._native_combine import FakeLauncher as FakeLauncher
from procession._native_combine import VirtualTime as VirtualTime
from procession._native_combine import chaos as chaos
from procession._native_combine import fallback as fallback
from procession._native_combine import record as record
from procession._native_combine import replay as replay
from procession._native_combine import retry as retry
from procession._native_combine import throttle as throttle
from procession._native_engine import Engine as Engine
from procession._native_engine import conform as conform
from procession._native_engine import conformance_checks as conformance_checks
from procession._native_engine import conformance_page as conformance_page
from procession._native_engine import connect_engine as connect_engine
from procession._native_engine import features as features
from procession._native_inbox import Busy as Busy
from procession._native_inbox import Caller as Caller
from procession._native_inbox import Inbox as Inbox
from procession._native_inbox import Message as Message
from procession._native_inbox import Serving as Serving
from procession._native_supervised import Supervised as Supervised
from procession._native_supervised import supervise as supervise
from procession._native_waiter import CompletionQueue as CompletionQueue
from procession._native_waiter import Waiter as Waiter
from procession._native_worker import Pool as Pool
from procession._native_worker import SessionKey as SessionKey
from procession._native_worker import Worker as Worker
from procession._native_worker import WorkerServer as WorkerServer
from procession._native_worker import Zygote as Zygote
from procession._native_worker import connect_workers as connect_workers
from procession._native_worker import serve_launches as serve_launches
from procession._native_worker import serve_stdio as serve_stdio
from procession._native_worker import serve_worker as serve_worker

Buffer = bytes | bytearray | memoryview

__version__: Final[str]
BOOTSTRAP_ENV: Final[str]
PROCESS_NAME_ENV: Final[str]
LOG_CHANNEL_ENV: Final[str]

# Style of a call: who answers.
RETURNS: Final[int]  # the runtime sends what the endpoint returns or raises
EXPLICIT: Final[int]  # the endpoint answers on the port it is given
EXIT: Final[int]  # like EXPLICIT, and the answer is one proc's exit, decoded strictly where it is sent
ONE_WAY: Final[int]  # nobody waits for an answer
EXPLICIT_ONE_WAY: Final[int]  # like ONE_WAY, of an endpoint that gets a port

# Outcome of an answer.
RESULT: Final[int]  # payload is a pickled value
EXCEPTION: Final[int]  # payload is a pickled exception
CLOSED: Final[int]  # nobody can answer any more; text says why
CANCELLED: Final[int]  # by `Replies.cancel`
TIMED_OUT: Final[int]  # at the deadline of the call

def start_client() -> Runtime:
    """The runtime of a client: an io thread, a host with its run directory. The same one for every later call of this process."""

def start_proc(payload: str, imports: float = 0.0, is_host: bool = False) -> Runtime:
    """The runtime of a launched proc: dials back, proves its token. `imports`: seconds that its loading took. Raises `ConnectionError` when nobody admits it.

    `is_host`: it launches procs on its machine too, which reach those of the other hosts of the session.
    """

def dead_hosts() -> list[dict[str, Any]]:
    """Hosts of this user on this machine that were killed together with their keeper and guard: `run_dir`, `pid`, and
    `processes`, what lives of each (`pid`, `command`). The next host that starts ends that, and removes the directory."""

def start_client_in(directory: str) -> tuple[list[list[ProcHandle]], list[dict[str, Any]]]:
    """Starts the runtime of a client whose procs may outlive it: the procs that were taken over, by what was spawned
    together, and the last exits of earlier procs."""

def current() -> Runtime | None:
    """The runtime of this process, if one was started; raises RuntimeError in a forked child of a process that has one."""

def check_name(field: str, name: str) -> None:
    """Raises `ValueError` naming the character and its index when `name` is not a legal name."""

def safe_name(proc_id: str) -> str:
    """`proc_id` in a form safe as a container, unit, job or file name: `[a-z0-9-]`, at most 63 characters, unique."""

@final
class Runtime:
    @property
    def proc_id(self) -> str: ...
    @property
    def host_id(self) -> str: ...
    @property
    def host_node(self) -> str:
        """The node of the host, which may be this process; in a proc that has outlived one: of the last, while there is none."""
    @property
    def is_client(self) -> bool: ...
    @property
    def is_host(self) -> bool:
        """Whether it launches procs itself: a client, or a proc that serves as a host."""
    @property
    def rank(self) -> int:
        """In a proc: its rank in its mesh; 0 in a client."""
    @property
    def sys_path(self) -> list[str]:
        """In a proc: the client's `sys.path`, valid after `setup()`."""
    @property
    def cwd(self) -> str | None:
        """In a proc: the working directory it was asked to have, for launchers that do not set one."""
    def setup(self) -> bytes:
        """In a proc: the pickled callable to run before anything else; empty when there is none. Waits for the host's welcome."""
    def ready(self) -> None:
        """In a proc: tells the host that it is set up."""
    def say(self, text: str) -> None:
        """In a proc: keeps a line in its flight record, where the host finds it after the proc's end."""
    def stopped(self, timeout: float | None) -> str | None:
        """In a proc: waits for the host's stop; gives its reason, or None at `timeout`."""
    def register_actor(self, name: str) -> Inbox:
        """Raises `ValueError` when an actor of that name lives here already, or this proc was asked to stop."""
    def open_port(self) -> tuple[PortRef, PortReceiver]:
        """A port that any number of values can be sent to."""
    def open_once_port(self) -> tuple[PortRef, PortReceiver]: ...
    def lives(self, proc_id: str) -> bool:
        """Whether that launch has not ended. Of a host only."""
    def live(self) -> dict[str, int]:
        """The names of the procs that have not ended, each with its incarnation. Of a host only."""
    def spawn_procs(
        self,
        specs: Sequence[ProcSpec],
        launcher: Launcher | None,
        subscription: Subscription | None = None,
        restart: RestartPolicy | None = None,
        owner: tuple[str, str] | None = None,
    ) -> list[ProcHandle]:
        """Launches all of them at once; returns at once. `None` is the native launcher, and no restarts. Of a host only.

        `owner`: the id of a proc with which they end, and who in it they belong to, for people.
        """
    def actor_launcher(
        self,
        actor_id: str,
        name: str,
        dial_back: tuple[str, str | None, str | None],
        capabilities: dict[str, bool],
        own_proc: bool,
        refusal: str | None,
    ) -> Launcher:
        """A launcher that hands launch, terminate and kill to that actor. `dial_back`: (`local` | `network` | `stdio`, bind, advertise).

        `own_proc`: the actor has its proc to itself, which is ended when the actor hangs. With a `refusal` nothing is sent to
        the actor, and every launch fails for that reason.
        """
    def stop_procs(self, reason: str, timeout: float) -> None:
        """Of a host: ends every proc (kill at `timeout`), and refuses later launches. Its own actors live on."""
    def stop_actors(self, reason: str) -> None:
        """Asks every actor of this process to end after what it has queued."""
    def proc_actors_ended(self) -> None:
        """In a proc: all actors have ended; flush, and let the process end."""
    def shutdown(self, timeout: float) -> None:
        """Client: stops every proc (kill at `timeout`), the keeper and the io thread; leaves nothing. Idempotent."""

@final
class ProcSpec:
    def __new__(
        cls,
        *,
        name: str,
        rank: int,
        program: bytes,  # os.fsencode
        arg0: str | None,
        args: Sequence[str],
        env: dict[str, str],
        env_remove: Sequence[str],
        clear_env: bool,
        cwd: bytes | None,
        readiness: str,  # "call_back" | "none"
        setup: bytes,
        sys_path: Sequence[str],
        ready_timeout: float,
        stop_grace: float,
        ack_timeout: float,
        unknown_budget: float,
        lease: float,
        tail_lines: int,
        want_stdio: bool,
        log: tuple[bytes, int | None, int] | None,  # directory, max bytes, files kept
        confinement: dict[str, Any] | None = None,  # of procession._confine
        detach: bool = False,
        mesh: str = ...,
        preload: Sequence[str] | None = None,  # None: it is not to be forked
    ) -> ProcSpec:
        """Raises `InvalidArgument` for what is refused before anything starts."""

@final
class RestartPolicy:
    def __new__(
        cls,
        *,
        when: str,  # "never" | "on_failure" | "always"
        intensity: int,
        period: float,
        backoff: tuple[float, float],  # the first wait and the longest
        factor: float,
        jitter: float,
        healthy_after: float,
        budgets: dict[str, int],  # by class: "app", "oom", "boot", "launcher"
        strategy: str,  # "one_for_one" | "one_for_all" | "rest_for_one"
        actors: str,  # "fail" | "respawn"
    ) -> RestartPolicy:
        """Raises `ValueError` for what makes no policy."""

@final
class ProcHandle:
    """One slot; its ids and status are those of its last launch."""

    @property
    def proc_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def mesh(self) -> str:
        """As its ProcSpec had it."""
    @property
    def calls_back(self) -> bool: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def launch_id(self) -> str: ...
    def status(self) -> dict[str, Any]:
        """`status`, `pid`, `handle`, `progress`, `launcher`, `started_at`, `running_at`, `ready_at`, `ended_at` (seconds since the epoch or None), `boot`, `restarts`, `next_launch_at`, `late_reports`, `stdout_path`, `stderr_path`."""
    def exit(self) -> dict[str, Any] | None:
        """The fields of `procession.launch.ProcExit`, or None while it lives."""
    def history(self) -> tuple[list[dict[str, Any]], int]:
        """The last exits of all launches, oldest first, and how many there were before these."""
    def launcher(self) -> Launcher | None:
        """What launches it; None for the native one."""
    def respawn(self, launcher: Launcher | None) -> None:
        """Launches it again, by hand; raises `ValueError` unless it has ended for good, and its name is free."""
    def ready(self) -> Waiter:
        """Result None once one of its launches is ready; raises `RuntimeError` with phase, reason and stderr so far when the proc ended or missed its deadline."""
    def ended(self) -> Waiter:
        """Result: as `exit()`, once nothing launches it again by itself."""
    def stop(self, reason: str, grace: float | None) -> Waiter:
        """This, `terminate` and `kill` end restarts too. Agent first, then terminate, then kill. Result None once it is terminal. `None` is the grace of the spec."""
    def terminate(self, timeout: float, why: str) -> Waiter:
        """Result None once the launcher has been asked; raises `RuntimeError` when it could not be, `LauncherLost` when it is gone."""
    def kill(self, why: str) -> Waiter: ...
    def output_tail(self, stream: str, lines: int | None) -> list[str]:
        """As many of its last lines, from its file where it has one; None: all that are kept in memory."""

def all_ready(handles: Sequence[ProcHandle]) -> Waiter:
    """Done when all are ready, or at once when one cannot be any more. Result None; raises as `ready()` of that one."""

@final
class Launcher:
    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> int:
        """The same for the same launcher, for as long as there is one."""
    def dry_run(self, spec: ProcSpec) -> str:
        """What it would ask for to launch that. InvalidArgument, LauncherUnavailable, RuntimeError for what is refused."""

def read_record(file: bytes) -> dict[str, Any]:
    """What the file of an ended proc's record holds: `exit` as `ProcHandle.exit()`, and what is kept beside it.

    Raises `ValueError` for what is no record.
    """

def records_dir() -> str | None:
    """Where records of ended procs are kept; None where they are not."""

def find_user(user: str | int, group: str | int | None) -> tuple[int, int, list[int]]:
    """User, group and all groups: those of the user, or the group alone. Raises `InvalidArgument` for who is nobody."""

def machine_facts() -> list[tuple[str, bool, str]]:
    """What this machine, and this process on it, can promise: name, whether it holds, what it means."""

@final
class Subscription:
    """A queue of dicts about some procs, in order: `{"kind", "proc_id", "rank", "name", "incarnation", "at", ...}`.

    Output: `output` with `stream`, `line` and `ends` (False: a piece of a line of over 64 KiB), and `dropped` with
    `stream` and `count` where lines are missing.
    Lifecycle: `status`, `ready`, `actor_ended` (`actor`, `failure`), `note` (`text`), `exit` (`exit`, as `ProcHandle.exit()`),
    `restarting` (`next_incarnation`, `after`, `attempt` and `of` (None by hand), `why`), `restart_limit` (`limit`).
    It follows later launches of its slots too.
    """

    def __new__(cls, *, output: bool, lifecycle: bool) -> Subscription:
        """Of procs that are about to be spawned with it; it misses nothing of them.

        Those whose pipes the host reads wait while 8 MiB of output are unread here, so that none of it is dropped.
        """

    def next(self, timeout: float | None) -> dict[str, Any] | None: ...
    def drain(self) -> list[dict[str, Any]]:
        """What is here, up to 256 lines of output; the rest is given by the next call."""
    def waiter(self) -> Waiter:
        """Done as soon as `drain()` has something to give, or the subscription is at its end."""
    @property
    def ended(self) -> bool:
        """All procs have ended for good and everything was given."""

def subscribe(procs: Sequence[ProcHandle], *, output: bool, lifecycle: bool) -> Subscription:
    """From now on. Nobody waits for its reader: lines beyond 8 MiB unread are dropped, and counted."""

def subscribe_with_past(procs: Sequence[ProcHandle], lines: int | None) -> tuple[Subscription, list[list[list[str]]]]:
    """Output from now on, and what is kept of before: of each proc the lines of stdout and those of stderr.

    `lines` as for `ProcHandle.output_tail`. A line is either among these or in the subscription, never in both.
    """

@final
class ActorRef:
    """The address of an actor, parsed once. Picklable."""

    def __new__(cls, actor_id: str) -> ActorRef: ...
    @property
    def actor_id(self) -> str: ...

def call(
    refs: Sequence[ActorRef],
    method: str,
    style: int,
    payload: Sequence[Buffer],
    moved: Sequence[PortRef],
    sender: Inbox | None,
    opens: str | None = None,
    timeout: float | None = None,
) -> Replies:
    """Sends one message to each actor at once, `payload` shared, each with a once port of its own for the answer (none when nobody waits for one).

    `moved` are the ports that were met while pickling `payload`. `sender` is the actor that calls, None the client. A once port may only be moved to one actor.
    Where the message arrives, an inbox called `opens` starts to queue messages before the message can be read.
    Answers that have not come after `timeout` seconds are TIMED_OUT, and those who should give them learn that.
    """

def spawn_actors(
    handles: Sequence[ProcHandle],
    agent: str,
    method: str,
    payload: Sequence[Buffer],
    moved: Sequence[PortRef],
    sender: Inbox | None,
    opens: str,
) -> Replies:
    """As `call` of the actor `agent` in each proc; and each further incarnation is sent the same before anything else, until its actor `opens` has ended regularly. None may be moved."""

def join(pieces: Sequence[Buffer]) -> memoryview:
    """Several large pieces as one segment of a message, which is not copied once more when it is sent."""

def send_to_port(
    refs: Sequence[ActorRef],
    method: str,
    style: int,
    payload: Sequence[Buffer],
    moved: Sequence[PortRef],
    sender: Inbox | None,
    port: PortRef,
) -> None:
    """As `call`, with all answers sent to `port`, which a once port is moved by."""

@final
class Method:
    """An endpoint of one actor, with what is the same in each of its calls: the short way for those with a few plain arguments by their place."""

    @staticmethod
    def of(
        actor: ActorRef, name: str, styles: tuple[int, int], takes: tuple[int, int], region: tuple[Any, ...] | None
    ) -> Method | None:
        """`styles` with an answer and without; `takes`: how many arguments, at least and at most. None where no call can take it."""
    def tell(self, args: tuple[Any, ...], sender: Inbox | None) -> bool:
        """False, and nothing done: this one cannot take it."""
    def ask(self, args: tuple[Any, ...], sender: Inbox | None) -> Replies | None:
        """None, and nothing done: this one cannot take it."""

@final
class Replies:
    """The answers to one `call`, by position."""

    def __len__(self) -> int: ...
    def wait(self) -> None:
        """Until the first has come. Handles signals."""
    def settle(self, future: Future[Any]) -> bool:
        """Takes the first answer as the `_value` of `future`; false, and nothing done, where it has not come, was taken, or is no small plain value."""
    def fill(self, values: list[Any]) -> bool:
        """Takes all answers, by position, into `values`; false, and nothing done, where one of them is as of `settle`."""
    def all_done(self) -> Waiter:
        """Done when every answer has come, or at once when one is anything but a RESULT."""
    def one_done(self, index: int) -> Waiter: ...
    def take(self, index: int) -> Answer | None:
        """None while it has not come."""
    def first_bad(self) -> int | None: ...
    def cancel(self) -> bool:
        """What has not come is CANCELLED, and those who should give it learn that. Whether there was any."""
    def given_up(self) -> list[int]:
        """The positions that are CANCELLED or TIMED_OUT."""
    def nth(self, place: int) -> int | None:
        """The position that was the first (0), second (1), … to complete; None while so many have not."""
    def nth_done(self, place: int) -> Waiter: ...

@final
class Answer:
    @property
    def outcome(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def payload(self) -> list[memoryview]: ...
    @property
    def rank(self) -> int | None: ...
    def load(self, holder: Inbox | None = None) -> Any:
        """The value; the once ports in it close with `holder`. As `loads(payload)` inside of `claims(holder)`."""
    def claims(self, holder: Inbox | None = None) -> Claims: ...

@final
class PortRef:
    """A port that can be sent to. A once port is spent by its first send, and moves away when it is pickled into a message."""

    @property
    def port_id(self) -> str: ...
    @property
    def once(self) -> bool: ...
    @property
    def cancelled(self) -> bool:
        """Nobody waits for its answer any more."""
    @property
    def style(self) -> int:
        """EXIT for the port that a launcher answers on."""
    def send(self, payload: Sequence[Buffer], moved: Sequence[PortRef], rank: int | None) -> None:
        """Raises `RuntimeError` (AlreadyReported, AlreadyMoved in its text) when it is spent, `ConnectionError` when its owner cannot be reached."""
    def exception(self, payload: Sequence[Buffer], rank: int | None, text: str = "") -> None:
        """`text` is for those who do not unpickle."""
    def send_exit(self, result: object) -> None:
        """Decodes `result` strictly by its five attributes; what cannot be decoded is reported as such, and raised here as TypeError naming the attribute."""
    def exception_exit(self, error: BaseException) -> None: ...
    def send_log(self, stream: str, data: Buffer) -> None: ...

def dumps_plain(value: object) -> bytes | None:
    """The pickle of what is small and nothing but numbers, text, bytes and None, in tuples, lists and dicts; None for what is anything else."""

def fork_beside(group: int | None) -> int | None:
    """Forks this process beside it, into the control group of version 2 open as `group`. None here; in the fork the id of who made it, which ends."""

def report_launch(proc_id: str, pid: int | None, handle: str | None, progress: str | None) -> None:
    """From a launcher, at any time and from any thread: what it knows about a launch."""

def report_unreachable(proc_id: str, why: str) -> None:
    """From a launcher: what the launch runs on cannot be asked, until `report_launch` is called for it again."""

def reported_again(proc_id: str) -> None:
    """From a launcher: the exit was reported once more, and refused; the host counts that."""

def log_port(channel: str) -> PortRef:
    """The port behind `LaunchOptions.log_channel`."""

def claim_port(port_id: str, once: bool) -> PortRef:
    """Called while unpickling a message: takes the port out of the message that carries it. Outside of a message: `RuntimeError`."""

@final
class PortReceiver:
    @property
    def port_id(self) -> str: ...
    def recv(self, timeout: float | None) -> Answer | None:
        """None at `timeout`. CLOSED answers are final for a once port."""
    def try_recv(self) -> Answer | None: ...
    def waiter(self) -> Waiter:
        """Done as soon as `try_recv` has something to give."""
    def close(self) -> None: ...

@final
class Claims:
    """`with message.claims(): pickle.loads(…)`: makes the ports of the message available to `claim_port` on this thread.

    With a holder they close with that actor, as those of its own messages do.
    """

    def __enter__(self) -> Claims: ...
    def __exit__(self, *exc: object) -> None: ...

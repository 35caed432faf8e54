"""The short way to write a launcher: coroutines about one proc, and a base class that keeps the contract of ProcLauncher with them."""

from __future__ import annotations

import asyncio
import signal
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from procession import _validate
from procession._actor import EndpointProperty, endpoint, is_async
from procession._one_launch import OneLaunch
from procession.launch import LaunchOptions, LogWriter, ProcExitResult, ProcLauncher, _check_signature, safe_name

if TYPE_CHECKING:
    from procession._port import Port


class LaunchContext:
    """What `Launcher.launch` gets to know of its proc, beside the options."""

    def __init__(self, launcher: Launcher, proc_id: str) -> None:
        self._launcher = launcher
        self.proc_id = proc_id
        self.cancelled = asyncio.Event()
        """Set once somebody wants the proc gone before it was started. `launch` may then raise, or go on: what it starts is ended."""

    @property
    def name(self) -> str:
        """The proc id as a name for containers, units, jobs and files: `[a-z0-9-]`, at most 63 characters, unique."""
        return safe_name(self.proc_id)

    def progress(self, text: str) -> None:
        """Tells how far the launch is, from any thread; restarts the ready deadline."""
        self._launcher.report(self.proc_id, progress=text)


class _ServedApart(EndpointProperty[Any, Any]):
    """An endpoint, on an actor that has another method of that name: the author's."""

    __slots__ = ("authors",)

    def __init__(self, authors: Callable[..., Any], served: Callable[..., Any]) -> None:
        super().__init__(served, explicit=True, concurrent=True)
        self.authors = authors

    @property
    def __isabstractmethod__(self) -> bool:
        return getattr(self.authors, "__isabstractmethod__", False)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.authors.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self.authors, instance)


class Launcher(ProcLauncher):
    """A launcher of which you write what is about one proc: `launch`, `wait` and `signal`, and what else there is.

    All of them are `async def`, and those of several procs run at the same time. The rest is done here: each launch has
    exactly one exit, whatever is raised; what asks a proc to end while `launch` still runs is kept until there is a handle,
    and a kill goes before a terminate; `destroy` is called after each end, in which a proc that `wait` was not able to see
    to its end is killed first.

    `capabilities` say whatever the class says, but `stdio` and `tail`: those are true with `logs`, or `feeds_output`.
    """

    launches_at_once: ClassVar[int] = 16
    """How many of its `launch` run at the same time; the others wait for their turn, in order."""
    feeds_output: ClassVar[bool] = False
    """`launch` or `wait` feed the log channel themselves, as `supervise(spec)` does, without `logs`."""
    _serves_launch: ClassVar[str] = "_serve_launch"
    _launches: dict[str, OneLaunch]
    _slots: asyncio.Semaphore
    _beside: set[asyncio.Task[Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)  # not in __init__, which a class of the user's may have forgotten to call
        self._launches, self._beside = {}, set()
        self._slots = asyncio.Semaphore(cls.launches_at_once)
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = vars(cls)
        for name in ("terminate", "kill"):
            if name in own:
                raise TypeError(f"{cls.__qualname__}.{name}: write signal(handle, signal), which is called for both")
        for name in AUTHORS:
            if name in own:
                method = own[name].authors if isinstance(own[name], _ServedApart) else own[name]
                _check_authors(f"{cls.__qualname__}.{name}", method, vars(Launcher)[name])
                if name == "launch":
                    setattr(cls, name, _ServedApart(method, Launcher._serve_launch))
        super().__init_subclass__(**kwargs)
        _validate.count(f"{cls.__qualname__}.launches_at_once", cls.launches_at_once, least=1)
        has_output = _validate.flag(f"{cls.__qualname__}.feeds_output", cls.feeds_output) or cls._has("logs")
        cls.capabilities = replace(cls.capabilities, stdio=has_output, tail=has_output)

    @classmethod
    def _has(cls, name: str) -> bool:
        """Whether the author has written that one."""
        return next(vars(base)[name] for base in cls.__mro__ if name in vars(base)) is not vars(Launcher)[name]

    @abstractmethod
    async def launch(self, spec: LaunchOptions, ctx: LaunchContext) -> Any:
        """Starts the proc, and gives its handle: anything but None. `str(handle)` is shown to people.

        What it raises is the exit of this launch, as a failure. What it had started by then is found by `recover`.
        """

    @abstractmethod
    async def wait(self, handle: Any) -> ProcExitResult | int:
        """Waits for the end: the exit code (0 to 255), or all that is known.

        Raises Unreachable where that cannot be asked now, and is called again later. Anything else that it raises is the
        exit, as a failure, and the proc is killed. A tail of stderr in its result comes behind what `logs` has given.
        """

    @abstractmethod
    async def signal(self, handle: Any, signal: int) -> None:
        """Sends SIGTERM or SIGKILL to the whole tree of the proc; nothing where it has ended. It does not wait for the end.

        What it raises is told to whoever asked for it.
        """

    async def destroy(self, handle: Any) -> None:
        """Takes away what is left of a proc that has ended. Called again, four times at most, where it raises; its exit waits for it for 5 s."""

    async def list(self) -> Mapping[str, Any]:
        """The handles of all that there is of this launcher, by proc id: for `recover`, where that is not written itself."""
        return {}

    async def recover(self, proc_id: str) -> Any | None:
        """The handle of a proc that is there without one being known, since `launch` failed or another process has called it; or None."""
        return (await self.list()).get(proc_id)

    async def logs(self, handle: Any, out: LogWriter) -> None:
        """Gives all output of the proc to `out`, from its start to its end. Cancelled when the proc has ended 2 s ago."""

    async def probe(self) -> str:
        """Says what answers at the substrate, in a word or two; raises where nothing does. Asked while a proc is unreachable, for 10 s each time."""
        return ""

    async def _serve_launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        context = LaunchContext(self, proc_id)
        one = self._launches[proc_id] = OneLaunch(self, context, opts)
        try:
            result = await one.run()
        finally:
            del self._launches[proc_id]
        exit_port.send(result)

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        """Has `signal` send SIGTERM, now or once there is a handle."""
        await self._ask(proc_id, signal.SIGTERM)

    @endpoint
    async def kill(self, proc_id: str) -> None:
        """Has `signal` send SIGKILL, now or once there is a handle."""
        await self._ask(proc_id, signal.SIGKILL)

    async def _ask(self, proc_id: str, number: int) -> None:
        one = self._launches.get(proc_id)
        if one is not None:
            await one.ask(number)
        elif (handle := await self.recover(proc_id)) is not None:
            await self.signal(handle, number)

    def _run_beside(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is kept until it is done, or the launcher ends."""
        task = asyncio.create_task(coroutine)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task


AUTHORS = ("launch", "wait", "signal", "destroy", "list", "recover", "logs", "probe")
"""What an author writes, or may write."""


def _check_authors(name: str, method: Any, contract: Any) -> None:
    if isinstance(method, EndpointProperty):
        raise TypeError(f"{name}: leave @endpoint out; it is called by its base class, and not by other actors")
    if not is_async(method):
        raise TypeError(f"{name} has to be `async def`: await asyncio.to_thread(...) for what blocks")
    if not isinstance(method, (staticmethod, classmethod)):
        _check_signature(name, method, contract)

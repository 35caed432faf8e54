"""A launcher that has another one start a single process, from which procs are forked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from procession import _native, config
from procession._combinators import leaves_of
from procession._engines import EngineLauncher, engine_from
from procession._runtime import is_launched, runtime
from procession._setup import modules_of

if TYPE_CHECKING:
    from procession._future import Future
    from procession._host_mesh import HostMesh
    from procession._launcher import AnyLauncher
    from procession._native import Launcher
    from procession._proc_mesh import ProcMesh
    from procession._procs import Slot

_names = count(1)


class Zygote:
    """Launches one process through `launcher`, and forks procs from there: in milliseconds, and with the memory of what was
    imported shared.

    launcher: anything that `spawn_procs(launcher=...)` takes. It starts one process, in its container, job step or machine,
        for the first launch; that is where the procs of this launcher run. Of the native launcher the procs are forked in any
        case, and only `preload` is added.
    preload: modules that are imported there once, and so in each proc before it is ready, before those of `spawn_procs`.

    Each proc is one like any other: it has its own id, exit and output, environment and directory, and is stopped alone. Where
    the modules leave threads, use CUDA or take longer than 10 s, procs are executed in the same place, and the log says why. What a
    fork cannot be given goes through `launcher` as if this were not there: other programs, what is detached or confined (user,
    rlimits, resources, security, proc_bind), and `fork_server=False`. A module that cannot be imported fails each launch.

    The first launch waits for the process, within the `ack_timeout` of its spawn. What `launcher` gives each process that it
    starts, such as an environment, the procs of one such process have in common.

    When the process ends, what it has launched ends, as `lost`; the next launch starts another. It ends with `close()`, and
    with the process that has made this.
    """

    without_output: str | None = None
    _size: int | None = None
    """How many processes are kept for one proc each; None is one for all."""

    def __init__(self, launcher: Any, preload: Sequence[str] = ()) -> None:
        from procession._launcher import resolve

        self._through = resolve(launcher)
        self.preload = modules_of("preload", preload)
        self._lock = threading.Lock()
        self._name: str | None = None
        self._hosts: set[str] = set()
        """The nodes of those that launch through it."""

    @property
    def starts_a_process(self) -> bool:
        return self._through.starts_a_process

    def close(self) -> Future[None]:
        """Has the process end once all that it has launched has ended; done then. The next launch starts another."""
        from procession._future import gather
        from procession._remote import HostRef

        with self._lock:
            name, hosts, self._name, self._hosts = self._name, self._hosts, None, set()
        closing = [
            close(name) if host == runtime().proc_id else HostRef(host).later("close_zygote", name)
            for host in hosts
            if name is not None
        ]
        return gather(closing, lambda: None)

    def fit_for(self, slots: Sequence[Slot]) -> AnyLauncher:
        """This one, where it can launch them."""
        given = [slot.options for slot in slots]
        if any(one["preload"] is None or one["confinement"] is not None or one["detach"] for one in given):
            return self._through
        return self

    def native(self) -> Launcher | None:
        """None where it has nothing to do, since the host forks by itself."""
        through = self._through.native()
        if through is None:
            return None
        engines = [leaf for leaf in leaves_of(self._through) if isinstance(leaf, EngineLauncher)]
        python = engines[0].interpreter if engines else None
        return _launcher(self._named(runtime().proc_id), through, None, python, self._size)

    def described(self, on: HostMesh | None = None) -> dict[str, Any] | None:
        """What a host has to know of it, as plain data; None where it has nothing to do there."""
        through = self._through.described(on)
        if through is None:
            return None
        name = self._named(runtime().host_node if on is None else on._nodes()[0])
        owner = runtime().proc_id if is_launched() else None
        return {"zygote": name, "through": through, "owner": owner, "size": self._size}

    def _named(self, host: str) -> str:
        """What that host knows it by."""
        from procession._host_mesh import unlike_others

        with self._lock:
            self._hosts.add(host)
            if self._name is None:
                self._name = unlike_others("zygote-process" if self._size is None else "pool", next(_names))
            return self._name

    def process(self) -> ProcMesh:
        return self._through.process()

    def check(self, slots: Sequence[Slot]) -> None:
        """What only its launcher can do was given to that."""
        self._through.check([])

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{self!r} belongs to the process that has made it; make one where it is needed")

    def __repr__(self) -> str:
        return f"launchers.Zygote({self._through!r}, preload={self.preload!r})"


_known: dict[str, _native.Zygote | _native.Pool] = {}
_known_lock = threading.Lock()


def zygote_from(described: dict[str, Any]) -> Launcher:
    """In the process of a host: the launcher that was described."""
    from procession._launcher import native_from

    through, owner = native_from(described["through"]), described["owner"]
    return _launcher(described["zygote"], through, owner, _python_of(described["through"]), described["size"])


def _python_of(described: dict[str, Any] | None) -> str | None:
    """What runs Python where that launcher launches, where that is known."""
    if described is None:
        return None
    if "engine" in described:
        return engine_from(described).interpreter()
    return next(filter(None, map(_python_of, described.get("of", []))), None)


def known(name: str | None) -> _native.Zygote | _native.Pool | None:
    """In the process of a host: what has that name."""
    with _known_lock:
        return None if name is None else _known.get(name)


def _launcher(name: str, through: Launcher, owner: str | None, python: str | None, size: int | None) -> Launcher:
    """In the process of a host; one process for each name. With an owner, a proc of this host, it closes with that."""
    from procession._host_mesh import PROC_ARGS

    with _known_lock:
        zygote = _known.get(name)
        if zygote is None:
            args, program = [*PROC_ARGS, config.ZYGOTE_ARG], python or sys.executable
            if size is None:
                zygote = _native.Zygote(name, program, args, through, owner)
            else:
                zygote = _native.Pool(name, program, args, through, owner, size)
            _known[name] = zygote
        else:
            zygote.launch_through(through)  # that may have another process by now
        return zygote.launcher()


def close(name: str) -> Future[None]:
    """In the process of a host."""
    from procession._future import Future, when_done

    with _known_lock:
        zygote = _known.pop(name, None)
    if zygote is None:
        return Future._done_with(None)
    waiter = zygote.close()
    return when_done(waiter, waiter.result)

"""Launchers that are built in: each starts procs on one kind of substrate, through its own interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from procession import _native
from procession._runtime import runtime
from procession.errors import Unsupported

if TYPE_CHECKING:
    from procession._found import Owned
    from procession._host_mesh import HostMesh
    from procession._native import Engine, Launcher, Waiter
    from procession._proc_mesh import ProcMesh
    from procession._procs import Slot


class EngineLauncher:
    """What the launchers of substrates have in common. It connects at its first use, or by `connect()`."""

    without_output: str | None = None
    starts_a_process = False
    _kind: str

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = {name: value for name, value in config.items() if value is not None}
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What it was made with; what is not there has its default."""
        return dict(self._config)

    def connect(self) -> EngineLauncher:
        """Reaches the engine now, and gives this launcher.

        LauncherUnavailable with the address and the cause, where it does not answer; InvalidArgument for what it is asked for.
        """
        self._connected()
        return self

    def probe(self, timeout: float | None = 30.0) -> str:
        """The name and version of what answers. LauncherUnavailable where nothing does; TimeoutError after that many seconds."""
        found: str = self._answer(self._connected().probe(), timeout)
        return found

    def _answer(self, waiter: Waiter, timeout: float | None) -> Any:
        if not waiter.wait(timeout):
            raise TimeoutError(f"{self!r} has not answered within {timeout} s")
        return waiter.result()

    @property
    def interpreter(self) -> str | None:
        """What runs Python where its procs live, where that is known."""
        return self._connected().interpreter()

    def list(self, timeout: float | None = 30.0) -> Sequence[Owned]:
        """All that there is of procession where it launches, whoever has launched it. LauncherUnavailable, TimeoutError."""
        from procession._found import Owned

        found = self._answer(self._connected().list(), timeout)
        return [Owned(handle, running, left, labels) for handle, running, left, labels in found]

    def remove(self, handle: str, timeout: float | None = 30.0) -> None:
        """Ends what `list` has found, whoever owns it, and takes away what is left of it. LauncherUnavailable, TimeoutError."""
        self._answer(self._connected().remove(handle), timeout)

    def dry_run(self, bootstrap_command: Any = None, **options: Any) -> str:
        """What it would ask for to launch a proc with these arguments of `spawn_procs`; see `launchers.dry_run`."""
        from procession._dry_run import dry_run

        return dry_run(self, bootstrap_command, **options)

    def native(self) -> Launcher | None:
        return self._connected().launcher()

    def described(self, on: HostMesh | None = None) -> dict[str, Any]:
        """For the host of a proc, or another one, which connects to the engine of its own machine."""
        return {"engine": self._kind, "config": json.dumps(self._config, sort_keys=True)}

    def process(self) -> ProcMesh:
        raise Unsupported(f"{self!r} has no process of its own whose output could be read")

    def check(self, slots: Sequence[Slot]) -> None:
        """What it cannot hold procs to is refused by the host."""

    @staticmethod
    def _prepared(config: dict[str, Any]) -> dict[str, Any]:
        """What the engine gets, made where it connects."""
        return config

    def _far(self) -> dict[str, Any]:
        """What the engine gets where an agent connects to it, on another machine."""
        return self._config

    def _connected(self) -> Engine:
        with self._lock:
            if self._engine is None:
                runtime()
                self._engine = _connect(self._kind, self._config)
            return self._engine

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self._config)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._config.items())
        return f"launchers.{type(self).__name__}({given})"


def _again(cls: type[EngineLauncher], config: dict[str, Any]) -> EngineLauncher:
    return cls(**config)


MOST_KNOWN = 64
_known: dict[tuple[str, str], Engine] = {}
_known_lock = threading.Lock()


def engine_from(described: dict[str, Any]) -> Engine:
    """What a proc has described; one connection for all that describe the same, of the latest `MOST_KNOWN`."""
    key = (described["engine"], described["config"])
    with _known_lock:
        engine = _known.pop(key, None)
        if engine is None:
            engine = _connect(key[0], json.loads(key[1]))
        _known[key] = engine  # as the latest
        while len(_known) > MOST_KNOWN:
            del _known[next(iter(_known))]
        return engine


def _connect(kind: str, config: dict[str, Any]) -> Engine:
    return _native.connect_engine(kind, json.dumps(_kinds()[kind]._prepared(config)))


def _kinds() -> dict[str, type[EngineLauncher]]:
    from procession import launchers

    own = [found for found in vars(launchers).values() if isinstance(found, type) and issubclass(found, EngineLauncher)]
    return {cls._kind: cls for cls in own if hasattr(cls, "_kind")}

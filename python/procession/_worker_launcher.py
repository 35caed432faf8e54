"""A launcher for machines that are served (`procession serve --listen`), and its connections."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from procession import _native, _validate
from procession._runtime import runtime
from procession._session_key import Key, session_key
from procession.errors import InvalidArgument, LauncherUnavailable, Unsupported

if TYPE_CHECKING:
    from procession._future import Future
    from procession._host_mesh import HostMesh
    from procession._native import Launcher, Worker
    from procession._proc_mesh import ProcMesh
    from procession._procs import Slot

TIMEOUT = 10.0
"""Seconds for a worker to be reached."""
LEASE = 30.0
"""Seconds that its connection may be lost; the default of the one who serves, too."""


class WorkerLauncher:
    """Launches procs on the machine that is served at `address`, with the session key that it has.

    address: where it was told to listen: `"10.0.0.2:7000"`, also as `tcp://10.0.0.2:7000`.
    key: the path of the file with the key, its 32 bytes, or None: PROCESSION_SESSION_KEY_FILE names the file, or
        PROCESSION_SESSION_KEY holds it.
    bind: where this machine waits for the procs to reach back, `address:port`; None is the address from which the worker is reached.
    advertise: what they dial when that differs, `address[:port]`.
    lease: seconds that the connection may be lost before all that was launched there counts as lost. The worker has one of
        its own, after which it ends what was launched there.
    timeout: seconds for it to be reached.

    It connects at its first use, or by `connect()`.
    """

    without_output: str | None = None
    starts_a_process = False

    def __init__(
        self,
        address: str,
        *,
        key: Key = None,
        bind: str | None = None,
        advertise: str | None = None,
        lease: float = LEASE,
        timeout: float = TIMEOUT,
    ) -> None:
        self.address = _validate.text("address", address)
        self._key = None if key is None else session_key("key", key)
        self._bind = None if bind is None else _validate.text("bind", bind)
        self._advertise = None if advertise is None else _validate.text("advertise", advertise)
        if bind is not None or advertise is not None:
            from procession.launch import DialBack

            DialBack.network("127.0.0.1:0" if bind is None else bind, advertise)  # refuses what is no address
        self._lease = _validate.seconds("lease", lease)
        self._timeout = _validate.seconds("timeout", timeout)
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    def connect(self) -> WorkerLauncher:
        """Reaches the worker now, and gives this launcher.

        LauncherUnavailable with the address and the cause, where that cannot be done within the timeout. RuntimeError in a
        proc, whose host connects for it when it launches something.
        """
        self._connected()
        return self

    def close(self) -> Future[None]:
        """Closes the connection, at which all ends that was launched over it. The next use connects anew."""
        from procession._future import Future, when_done

        with self._lock:
            worker, self._worker = self._worker, None
        if worker is None:
            return Future._done_with(None)
        waiter = worker.close()
        return when_done(waiter, waiter.result)

    def shutdown_worker(self) -> Future[None]:
        """Asks the worker itself to end, which one does that was started to be ended so (`run_worker_loop_until_shutdown`).

        With it all ends that anybody has launched there. LauncherUnavailable where it does not.
        """
        from procession._future import when_done

        waiter = self._connected().shut_down()
        return when_done(waiter, waiter.result)

    def native(self) -> Launcher | None:
        return self._connected().launcher()

    def described(self, on: HostMesh | None = None) -> dict[str, Any]:
        """For the host of a proc, or another one, which connects with the key of its own environment: keys do not travel."""
        if self._key is not None:
            rule = "the host connects for its procs, with the key that its environment names; leave it out"
            raise InvalidArgument("key", "…", rule)
        return {
            "worker": self.address,
            "bind": self._bind,
            "advertise": self._advertise,
            "lease": self._lease,
            "timeout": self._timeout,
        }

    @property
    def interpreter(self) -> str | None:
        """The Python interpreter that serves there."""
        return self._connected().interpreter

    def process(self) -> ProcMesh:
        raise Unsupported(f"what worker {self.address} writes itself is in the output of the process that serves it")

    def check(self, slots: Sequence[Slot]) -> None:
        """What the machine there cannot do is refused when a proc is launched."""

    def _connected(self) -> Worker:
        with self._lock:
            if self._worker is None:
                [found] = _dial([self])
                if isinstance(found, str):
                    raise LauncherUnavailable(found)
                self._worker = found
            return self._worker

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{self!r} has a connection of this process; make one where it is needed")

    def __repr__(self) -> str:
        return f"launchers.WorkerLauncher({self.address!r})"


def connect_all(
    addresses: Sequence[str],
    key: Key = None,
    *,
    bind: str | None = None,
    advertise: str | None = None,
    lease: float = LEASE,
    timeout: float = TIMEOUT,
) -> list[WorkerLauncher]:
    """Reaches all of these workers at the same time, within one timeout in seconds; a launcher for each, in this order.

    LauncherUnavailable when one cannot be reached, with the address and the cause of each such: then no connection is kept.
    """
    if isinstance(addresses, str):
        _validate.refuse("addresses", addresses, "pass a list of addresses")
    more = {"bind": bind, "advertise": advertise, "lease": lease, "timeout": timeout}
    launchers = [WorkerLauncher(address, key=key, **more) for address in addresses]  # type: ignore[arg-type]
    if not launchers:
        return []
    found = _dial(launchers)
    missing = [why for why in found if isinstance(why, str)]
    if missing:
        for waiter in [worker.close() for worker in found if not isinstance(worker, str)]:
            waiter.wait(None)
        raise LauncherUnavailable(f"{len(missing)} of {len(found)} workers cannot be reached: {'; '.join(missing)}")
    for launcher, worker in zip(launchers, found, strict=True):
        assert not isinstance(worker, str)
        launcher._worker = worker
    return launchers


def _dial(launchers: Sequence[WorkerLauncher]) -> list[Worker | str]:
    """All at the same time; they are alike but for their addresses."""
    one = launchers[0]
    key = session_key("key", None) if one._key is None else one._key
    runtime()
    addresses = [launcher.address for launcher in launchers]
    return _native.connect_workers(addresses, key, one._timeout, one._lease, one._bind, one._advertise)


_known: dict[tuple[Any, ...], WorkerLauncher] = {}
_known_lock = threading.Lock()


def worker_from(described: dict[str, Any]) -> Launcher:
    """The launcher that a proc has described; one connection for all that describe the same."""
    with _known_lock:
        launcher = _known.get(tuple(described.values()))
        if launcher is None:
            more = dict(described)
            launcher = _known[tuple(described.values())] = WorkerLauncher(more.pop("worker"), **more)
    found = launcher.native()
    assert found is not None
    return found

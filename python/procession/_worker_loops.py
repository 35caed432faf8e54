"""What programs say about transports and about other machines.

Procs reach back in the way that their launcher names (`DialBack`), so a transport is only checked and kept here. A machine
that is served takes launches from everybody who has its session key (`launchers.WorkerLauncher`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Literal, NoReturn

from procession import _native, _validate
from procession._session_key import session_key
from procession._worker_launcher import LEASE
from procession.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from procession._future import Future
    from procession._host_mesh import HostMesh

PrivateKey = bytes | os.PathLike[str] | None
CA = bytes | os.PathLike[str] | Literal["trust_all_connections"]

_CA = 'both ends make their certificates from the session key, and trust no others: pass ca="trust_all_connections"'


class ChannelTransport(Enum):
    """How processes reach each other."""

    Unix = "ipc"
    TcpWithHostname = "tcp"
    Tls = "tls"


_lock = threading.Lock()
_enabled: str | None = None


def enable_transport(transport: ChannelTransport | str) -> None:
    """Says before the first use how processes may reach each other: "ipc", "tcp", "tls", or an address like "tcp://1.2.3.4:0".

    All of them are there in any case, and which one a proc takes is its launcher's to say (`launch.DialBack`): unix sockets
    for native procs, TCP with TLS for others. RuntimeError for a second one, and after the first use.
    """
    wanted = transport.value if isinstance(transport, ChannelTransport) else _validate.text("transport", transport)
    known = [one.value for one in ChannelTransport]
    kind, given, address = wanted.partition("://")
    if kind not in known or (given and not address):
        rule = f"has to be one of {', '.join(known)}, or an address that begins so, such as tcp://1.2.3.4:0"
        raise InvalidArgument("transport", repr(wanted), rule)
    global _enabled
    with _lock:
        if _enabled == wanted:
            return
        if _enabled is not None:
            raise RuntimeError(f"transport = {wanted!r}: {_enabled!r} was enabled before, and there can be one")
        if _native.current() is not None:
            raise RuntimeError(f"transport = {wanted!r}: enable it before the first use of anything else")
        _enabled = wanted


_started: list[_native.WorkerServer] = []
"""Those that serve as long as this process lives."""


def run_worker_loop_forever(*, private_key: PrivateKey = None, ca: CA, address: str) -> None:
    """Serves this machine at `address` (`host:port`, also as `tcp://host:port`): who has the session key can launch procs on it.

    private_key: the session key: its 32 bytes, the path of its file, or None: PROCESSION_SESSION_KEY_FILE names the file,
        or PROCESSION_SESSION_KEY holds it. `procession key FILE` makes one. InvalidArgument where there is none.
    ca: "trust_all_connections". Nobody is trusted for it: the session key is needed all the same.

    Ctrl-C ends it, and what was launched first.
    """
    _run(_serve(private_key, ca, address, until_asked=False))


def run_worker_loop_until_shutdown(*, private_key: PrivateKey = None, ca: CA, address: str) -> None:
    """Like `run_worker_loop_forever`; a client can end it too (`WorkerLauncher.shutdown_worker`)."""
    _run(_serve(private_key, ca, address, until_asked=True))


def start_worker_loop_forever(*, private_key: PrivateKey = None, ca: CA, address: str) -> Future[None]:
    """Like `run_worker_loop_forever`, on a thread of its own: returns once it serves. The end of this process ends it.

    The future is done when it has ended.
    """
    from procession._future import when_done

    server = _serve(private_key, ca, address, until_asked=False)
    _started.append(server)
    waiter = server.asked()
    return when_done(waiter, waiter.result)


def _serve(private_key: PrivateKey, ca: CA, address: str, *, until_asked: bool) -> _native.WorkerServer:
    _validate.text("address", address)
    _check_ca(ca)
    key = session_key("private_key", private_key)
    return _native.serve_worker(address, key, LEASE, until_asked, sys.executable)


def _check_ca(ca: CA) -> None:
    if ca != "trust_all_connections":
        raise Unsupported(_CA)


def _run(server: _native.WorkerServer) -> None:
    try:
        server.wait(None)
    finally:
        server.stop()


def attach_to_workers(
    *, private_key: PrivateKey = None, ca: CA, workers: Sequence[str | Future[str]], name: str | None = None
) -> HostMesh:
    """The machines that are served at these addresses, as hosts with the one dimension `hosts`, in this order.

    All of them are reached before it returns: LauncherUnavailable names each that cannot be, and why, and then none is kept.
    On each a host is started for this client alone; `initialized` tells when all are there. Hosts reach back to the address
    from which their worker was reached, or to that of `enable_transport("tcp://…")`.

    private_key, ca: as for `run_worker_loop_forever`.
    workers: `host:port`, also as `tcp://host:port`; a Future is waited for.
    """
    from procession._hosts import hosts_on_workers
    from procession._worker_launcher import connect_all

    if isinstance(workers, str):
        _validate.refuse("workers", workers, "pass a list of addresses")
    _check_ca(ca)
    addresses = [worker if isinstance(worker, str) else worker.get() for worker in workers]
    if not addresses:
        raise InvalidArgument("workers", "[]", "name one worker at least")
    _, _, bind = (_enabled or "").partition("://")
    key = session_key("private_key", private_key)
    return hosts_on_workers(connect_all(addresses, key, bind=bind or None), name)


def attach(addr: str) -> NoReturn:
    """Would reach procs of another client through its host at that address. Unsupported: hosts serve the client they were
    started for, which can pass its meshes on; see `attach_to_workers`."""
    _validate.text("addr", addr)
    rule = "use attach_to_workers, which starts hosts of this client's own there"
    raise Unsupported(f"addr = {addr!r}: the procs of other clients cannot be reached; {rule}")

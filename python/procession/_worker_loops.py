"""What programs say about transports and about hosts on other machines.

Procs reach back in the way that their launcher names (`DialBack`), so a transport is only checked and kept here. Hosts on
other machines are not there in this version; what asks for them is refused.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Literal, NoReturn

from procession import _native, _validate
from procession.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from procession._future import Future
    from procession._host_mesh import HostMesh

PrivateKey = bytes | os.PathLike[str] | None
CA = bytes | os.PathLike[str] | Literal["trust_all_connections"]

_TLS = 'keys and authorities of your own are not supported in this version: pass private_key=None, ca="trust_all_connections"'
_ELSEWHERE = "hosts on other machines are not there in this version: launch with a `ProcLauncher` that reaches them, and DialBack.network"


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


def run_worker_loop_forever(*, private_key: PrivateKey = None, ca: CA, address: str) -> None:
    """Would serve this machine as a host. Unsupported in this version."""
    _refuse(private_key, ca, address)


def run_worker_loop_until_shutdown(*, private_key: PrivateKey = None, ca: CA, address: str) -> None:
    """Would serve this machine as a host until that is shut down. Unsupported in this version."""
    _refuse(private_key, ca, address)


def start_worker_loop_forever(*, private_key: PrivateKey = None, ca: CA, address: str) -> Future[None]:
    """Would serve this machine as a host, and return at once. Unsupported in this version."""
    _refuse(private_key, ca, address)


def attach_to_workers(
    *, private_key: PrivateKey = None, ca: CA, workers: Sequence[str | Future[str]], name: str | None = None
) -> HostMesh:
    """Would give the hosts at these addresses. Unsupported in this version."""
    if isinstance(workers, str):
        _validate.refuse("workers", workers, "pass a list of addresses")
    _refuse(private_key, ca, *(worker for worker in workers if isinstance(worker, str)))


def attach(addr: str) -> None:
    """Would reach procs through the host at that address. Unsupported in this version."""
    _refuse(None, "trust_all_connections", addr)


def _refuse(private_key: PrivateKey, ca: CA, *addresses: str) -> NoReturn:
    for address in addresses:
        _validate.text("address", address)
    if private_key is not None or ca != "trust_all_connections":
        raise Unsupported(_TLS)
    raise Unsupported(f"{', '.join(addresses)}: {_ELSEWHERE}")

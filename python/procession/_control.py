"""The control socket of a host that is served: one request and one answer for each connection, both a line of JSON."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from procession import config
from procession._exits import exit_from, status_from
from procession.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from procession._native import ProcHandle, Waiter

SOCKET = "control"
OUTPUT = "out"
"""Where the output of procs is, below the directory of their host."""
LONGEST = 1 << 20
"""Bytes of a request."""
ENDED_KEPT = 1000
"""Of so many procs that have ended while the host lived it is known how; those that were started last."""


class Served:
    """The procs of one host, by name: those that live, and how others have ended."""

    def __init__(
        self, directory: Path, groups: Sequence[Sequence[ProcHandle]], ended: Sequence[Mapping[str, Any]]
    ) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._procs: dict[str, ProcHandle] = {}
        self._ended = {one["name"]: exit_from(one) for one in ended}
        self._remember([handle for handles in groups for handle in handles])

    def start(
        self,
        *,
        name: str,
        count: int,
        program: list[str],
        cwd: str | None,
        env: dict[str, str | None],
        restart: dict[str, Any],
        limits: dict[str, Any],
    ) -> list[str]:
        """Launches procs that outlive the host; gives their names."""
        from procession._host_mesh import this_host
        from procession._procs import OwnedProcs
        from procession._restart import Restart

        procs = this_host().spawn_procs(
            {"procs": count},
            name=name,
            bootstrap_command=program,
            readiness="none",
            cwd=cwd,
            env=lambda point: {**env, "RANK": str(point.rank), "WORLD_SIZE": str(count)},
            log_dir=self._directory / OUTPUT,
            log_max_bytes=config.SERVED_LOG_BYTES,
            restart=Restart(**restart),
            on_owner_loss="detach",
            **_with_tuples(limits),
        )
        assert isinstance(procs._procs, OwnedProcs)
        handles = procs._procs.handles(procs._bases())
        self._remember(handles)
        return [handle.name for handle in handles]

    def _remember(self, handles: Sequence[ProcHandle]) -> None:
        with self._lock:
            for handle in handles:
                for earlier in (self._procs, self._ended):
                    earlier.pop(handle.name, None)
                self._procs[handle.name] = handle
            ended = [name for name, handle in self._procs.items() if handle.exit() is not None]
            for name in ended[:-ENDED_KEPT]:
                del self._procs[name]

    def every(self) -> list[dict[str, Any]]:
        """One for each name: its last launch."""
        with self._lock:
            procs, ended = dict(self._procs), dict(self._ended)
        rows = [one.as_dict() | {"status": one.kind} for one in ended.values()]
        for handle in procs.values():
            exit_ = handle.exit()
            row = {"name": handle.name, "incarnation": handle.incarnation, "proc_id": handle.proc_id}
            status = status_from(handle.status())
            about = {"status": status.status, "pid": status.pid, "started_at": status.started_at, "verdict": ""}
            paths = {"stdout_path": status.stdout_path, "stderr_path": status.stderr_path}
            rows.append(
                row | about | paths if exit_ is None else exit_from(exit_).as_dict() | {"status": status.status}
            )
        return rows

    def stop(self, *, names: list[str], kill: bool) -> list[dict[str, Any]]:
        """Ends them, and waits for it; gives of each its `name`, its `verdict`, and as `failure` why it could not be asked."""
        with self._lock:
            handles = [self._find(name) for name in names]
        asked = [one.kill("procession stop --kill") if kill else one.stop("procession stop", None) for one in handles]
        failures = [_failure(waiter) for waiter in asked]
        exits = [_result(one.ended()) for one in handles]
        return [
            {"name": name, "verdict": exit_from(exit_).verdict, "failure": failure}
            for name, exit_, failure in zip(names, exits, failures, strict=True)
        ]

    def _find(self, name: str) -> ProcHandle:
        if name not in self._procs:
            raise NotFound(f"{name}: no proc of that name lives, and none was stopped; `procession ps` lists them")
        return self._procs[name]


def _with_tuples(given: Any) -> Any:
    """Pairs are tuples, which JSON has not."""
    if isinstance(given, dict):
        return {key: _with_tuples(value) for key, value in given.items()}
    return tuple(given) if isinstance(given, list) else given


def _result(waiter: Waiter) -> Any:
    waiter.wait(None)
    return waiter.result()


def _failure(waiter: Waiter) -> str | None:
    try:
        _result(waiter)
    except RuntimeError as error:
        return str(error)
    return None


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, served: Served) -> None:
        self.served = served
        path.unlink(missing_ok=True)  # of a host that was killed: the directory's lock is ours
        super().__init__(str(path), _Handler)
        path.chmod(0o600)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    timeout = 10.0
    """Seconds for a request to come, and for its answer to be taken."""

    def handle(self) -> None:
        try:
            answer = {"ok": self._answered(self.rfile.readline(LONGEST))}
        except InvalidArgument as error:
            answer = {"error": str(error), "argument": [error.field, error.value, error.rule]}
        except Exception as error:  # whatever is wrong with one request is for who made it
            answer = {"error": str(error), "not_found": isinstance(error, NotFound)}
        with suppress(OSError):  # who asked may be gone
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    def _answered(self, line: bytes) -> Any:
        served = self.server.served
        calls: dict[str, Callable[..., Any]] = {"start": served.start, "list": served.every, "stop": served.stop}
        if not line.endswith(b"\n"):
            raise ValueError(
                f"a request of {len(line)} bytes without an end: it is one line of at most {LONGEST - 1} bytes"
            )
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError(f"a request is a JSON object with a call, not a {type(request).__name__}")
        name = request.pop("call", None)
        if name not in calls:
            raise ValueError(f"call = {name!r}: this host knows {', '.join(calls)}; use a client of its version")
        call = calls[name]
        try:
            signature(call).bind(**request)
        except TypeError as error:
            raise ValueError(f"call {name}: {error}; use a client of the version of this host") from None
        return call(**request)


def serve(directory: Path, served: Served) -> _Server:
    """Answers on a thread of its own until it is shut down."""
    server = _Server(directory / SOCKET, served)
    threading.Thread(target=server.serve_forever, name="procession control", daemon=True).start()
    return server


def ask(directory: str | os.PathLike[str], call: str, **arguments: Any) -> Any:
    """Asks the host that is served in `directory`; gives the answer.

    Raises InvalidArgument and NotFound for what it refuses so, RuntimeError for what went wrong there, ConnectionError
    where it ended meanwhile.
    """
    path = Path(directory) / SOCKET
    request = json.dumps({"call": call, **arguments}).encode() + b"\n"
    if len(request) > LONGEST:
        raise InvalidArgument(
            "request", f"{len(request)} bytes", f"the limit is {LONGEST}: pass large data through a file"
        )
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError as error:
            why = f"no host is served there ({error.strerror}); start it: procession serve --state {directory}"
            raise InvalidArgument("--host", str(directory), why) from None
        with suppress(OSError):  # what it has answered before it ended can be read all the same
            connection.sendall(request)
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise ConnectionError(f"the host in {directory} ended before it answered")
    answer = json.loads(line)
    if "error" not in answer:
        return answer["ok"]
    if "argument" in answer:
        raise InvalidArgument(*answer["argument"])
    raise NotFound(answer["error"]) if answer["not_found"] else RuntimeError(answer["error"])

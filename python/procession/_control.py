"""The control socket of a host that is served: one request and one answer for each connection, both a line of JSON."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from procession import config
from procession._exits import exit_from, status_from
from procession.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from procession._native import ProcHandle

SOCKET = "control"
OUTPUT = "out"
"""Where the output of procs is, below the directory of their host."""
LONGEST = 1 << 20
"""Bytes of a request."""


class Served:
    """The procs of one host, by name: those that live, and how others have ended."""

    def __init__(
        self, directory: Path, groups: Sequence[Sequence[ProcHandle]], ended: Sequence[Mapping[str, Any]]
    ) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._procs = {handle.name: handle for handles in groups for handle in handles}
        self._ended = {one["name"]: exit_from(one) for one in ended}

    def start(self, *, name: str, count: int, program: list[str], cwd: str | None, env: dict[str, str]) -> list[str]:
        """Launches procs that outlive the host; gives their names."""
        from procession._host_mesh import this_host

        procs = this_host().spawn_procs(
            {"procs": count},
            name=name,
            bootstrap_command=program,
            readiness="none",
            cwd=cwd,
            env=lambda point: {**env, "RANK": str(point.rank), "WORLD_SIZE": str(count)},
            log_dir=self._directory / OUTPUT,
            log_max_bytes=config.SERVED_LOG_BYTES,
            on_owner_loss="detach",
        )
        handles = procs._handles()
        with self._lock:
            self._procs.update({handle.name: handle for handle in handles})
        return [handle.name for handle in handles]

    def every(self) -> list[dict[str, Any]]:
        """One for each name: its last launch."""
        with self._lock:
            procs, ended = dict(self._procs), dict(self._ended)
        rows = [one.as_dict() | {"status": one.kind} for name, one in ended.items() if name not in procs]
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

    def stop(self, *, names: list[str], kill: bool) -> list[str]:
        """Ends them, and waits for it; gives their verdicts."""
        with self._lock:
            handles = [self._find(name) for name in names]
        asked = [one.kill("procession stop --kill") if kill else one.stop("procession stop", None) for one in handles]
        for waiter in asked:
            waiter.wait(None)
        ended = [one.ended() for one in handles]
        for waiter in ended:
            waiter.wait(None)
        return [exit_from(exit_).verdict for one in handles if (exit_ := one.exit()) is not None]

    def _find(self, name: str) -> ProcHandle:
        if name not in self._procs:
            raise NotFound(f"{name}: no proc of that name lives; `procession ps` lists them")
        return self._procs[name]


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

    def handle(self) -> None:
        line = self.rfile.readline(LONGEST)
        try:
            request = json.loads(line)
            served = self.server.served
            calls: dict[str, Callable[..., Any]] = {"start": served.start, "list": served.every, "stop": served.stop}
            answer = {"ok": calls[request.pop("call")](**request)}
        except Exception as error:  # whatever is wrong with one request is for who made it
            answer = {"error": str(error), "kind": type(error).__name__}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


def serve(directory: Path, served: Served) -> _Server:
    """Answers on a thread of its own until it is shut down."""
    server = _Server(directory / SOCKET, served)
    threading.Thread(target=server.serve_forever, name="procession control", daemon=True).start()
    return server


def ask(directory: str | os.PathLike[str], call: str, **arguments: Any) -> Any:
    """Asks the host that is served in `directory`; raises InvalidArgument for what it refuses."""
    path = Path(directory) / SOCKET
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError as error:
            why = f"no host is served there ({error.strerror}); start it: procession serve --state {directory}"
            raise InvalidArgument("--host", str(directory), why) from None
        connection.sendall(json.dumps({"call": call, **arguments}).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise ConnectionError(f"the host in {directory} ended before it answered")
    answer = json.loads(line)
    if "error" in answer:
        raise InvalidArgument(call, "…", answer["error"]) if answer["kind"] != "NotFound" else NotFound(answer["error"])
    return answer["ok"]

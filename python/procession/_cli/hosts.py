"""`procession serve`, and what asks a host that is served: `start`, `ps`, `logs`, `stop`."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from procession import _validate, config
from procession._cli import spawning
from procession._cli.command import Handler, add_command, environment, moment, program_of, refuse
from procession._cli.spawning import add_limits, add_restart, limits_of, restart_of
from procession.errors import InvalidArgument, NotFound

SERVE = """\
With --state, procs that are started with `procession start` outlive the host: when it ends, in whatever way, they go on, with their output
in files below its directory, and the next `procession serve` there takes them over and knows how those ended that died
meanwhile. SIGTERM and SIGINT end the host and leave them.

With --listen, whoever has the session key can launch procs on this machine from another one, as with
launchers.WorkerLauncher("HOST:PORT"); they end with the connection. SIGTERM and SIGINT end the host, and them first.
`procession key FILE` makes a key; without --key-file PROCESSION_SESSION_KEY_FILE names its file, or PROCESSION_SESSION_KEY
holds it.
"""
STOP = """\
exit codes: 0 when all have ended as they were asked to, 1 when one could not be asked, for the reason that is shown, or is
not known
"""
TYPED = spawning.TYPED | {
    "address": "--listen",
    "key": "--key-file",
    "file": "FILE",
    "lease": "--lease",
    'per_host["procs"]': "--procs",
    "bootstrap_command": "program",
}
"""What the command line calls the arguments of `spawn_procs`."""


def add_to(commands: Any) -> None:
    summary = "run a host whose procs outlive it, or one for other machines"
    description = "Runs a host whose procs outlive it, or one that launches procs for other machines."
    serve = add_command(commands, "serve", _reported(_serve), summary, description=description, epilog=SERVE)
    serve.add_argument("--state", metavar="DIR", help="its directory, made when it is missing")
    serve.add_argument("--listen", metavar="HOST:PORT", help="where other machines reach it; port 0 is any")
    serve.add_argument("--key-file", metavar="FILE", help="the session key, for --listen")
    serve.add_argument(
        "--lease",
        type=float,
        metavar="SECONDS",
        help="how long a client may lose its connection, for --listen (default: 30)",
    )

    description = "Makes a session key, for machines that launch procs on each other."
    key = add_command(commands, "key", _reported(_key), "make a session key", description=description)
    key.add_argument("file", nargs="?", metavar="FILE", help="a new file, for this user alone; without it, stdout")

    usage = "procession start --host DIR --name NAME [options] [--] program [args ...]"
    start = _asking(
        commands, "start", _start, "start a program on a host that is served; it outlives the host", usage=usage
    )
    start.add_argument("-n", "--procs", type=int, default=1, metavar="N", help="how many processes (default: 1)")
    start.add_argument("--name", required=True, help="process r is called NAME-r")
    start.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="K=V",
        help="add to the environment of the host; K alone removes it",
    )
    add_restart(start)
    add_limits(start)
    start.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)

    ps = _asking(commands, "ps", _ps, "list the procs of a host that is served, and the last that have ended")
    ps.add_argument("--json", action="store_true", help="one JSON object a line")

    logs = _asking(commands, "logs", _logs, "show what a proc has written, also while no host is served")
    logs.add_argument("name", help="of a process")
    logs.add_argument("--stderr", action="store_true", help="its stderr instead of its stdout")

    stop = _asking(commands, "stop", _stop, "end procs of a host that is served, and wait for it", epilog=STOP)
    stop.add_argument("--kill", action="store_true", help="at once")
    stop.add_argument("names", nargs="+", metavar="NAME", help="of processes")


def _asking(commands: Any, name: str, handler: Handler, summary: str, **kwargs: Any) -> argparse.ArgumentParser:
    parser = add_command(commands, name, _reported(handler), summary, **kwargs)
    parser.add_argument("--host", required=True, metavar="DIR", help="the directory of the host")
    return parser


def _reported(handler: Handler) -> Handler:
    return partial(_report, handler)


def _report(handler: Handler, options: argparse.Namespace) -> int:
    try:
        return handler(options)
    except InvalidArgument as error:
        refuse(options, error, TYPED)
    except (NotFound, RuntimeError) as error:
        print(f"procession: {error}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    if (options.state is None) == (options.listen is None):
        parser.error("give --state DIR or --listen HOST:PORT, and not both: they are two ways of serving")
    if options.listen is not None:
        return _serve_worker(options)
    for name, given in (("--key-file", options.key_file), ("--lease", options.lease)):
        if given is not None:
            parser.error(f"{name} is for --listen: nobody reaches a host in a directory from another machine")
    return _serve_directory(options)


def _serve_worker(options: argparse.Namespace) -> int:
    from procession import _native
    from procession._session_key import session_key
    from procession._worker_launcher import LEASE

    lease = LEASE if options.lease is None else _validate.seconds("lease", options.lease)
    key = session_key("key", options.key_file)
    # Before there are other threads, which would get the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    server = _native.serve_worker(options.listen, key, lease, False, sys.executable)
    print(f"serving tcp://{server.address} as process {os.getpid()}", flush=True)
    signal.sigwait((signal.SIGTERM, signal.SIGINT))
    server.stop()
    return 0


def _key(options: argparse.Namespace) -> int:
    from procession._session_key import make

    text = make(None if options.file is None else Path(options.file))
    if text is not None:
        print(text)
    return 0


def _serve_directory(options: argparse.Namespace) -> int:
    from procession import _control, _runtime

    directory = Path(options.state).absolute()
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    groups, ended = _runtime.start_in(directory)
    server = _control.serve(directory, _control.Served(directory, groups, ended))
    names = ", ".join(handle.name for handles in groups for handle in handles) or "none"
    print(f"serving {directory} as process {os.getpid()}; procs taken over: {names}", flush=True)
    signal.sigwait((signal.SIGTERM, signal.SIGINT))
    server.shutdown()
    server.server_close()
    (directory / _control.SOCKET).unlink(missing_ok=True)
    return 0


def _start(options: argparse.Namespace) -> int:
    from procession import _control

    program, env = program_of(options), environment(options.env)
    names = _control.ask(
        options.host,
        "start",
        name=options.name,
        count=options.procs,
        program=program,
        cwd=os.getcwd(),
        env=env,
        restart=restart_of(options),
        limits=limits_of(options),
    )
    print("\n".join(names))
    return 0


def _ps(options: argparse.Namespace) -> int:
    from procession import _control
    from procession._exits import in_columns

    rows = _control.ask(options.host, "list")
    if options.json:
        print("".join(json.dumps(row) + "\n" for row in rows), end="")
        return 0
    cells = [("name", "inc", "pid", "status", "started", "verdict")]
    for row in rows:
        pid = "-" if row["pid"] is None else str(row["pid"])
        verdict = row["verdict"].partition("\n")[0]
        cells.append((row["name"], str(row["incarnation"]), pid, row["status"], moment(row["started_at"]), verdict))
    print(in_columns(cells))
    return 0


def _logs(options: argparse.Namespace) -> int:
    from procession._control import OUTPUT

    name, folder = _validate.name("name", options.name), Path(options.host) / OUTPUT
    file = re.compile(rf"{re.escape(name)}\.([0-9]+)\.{'err' if options.stderr else 'out'}")
    launches = {int(found[1]): path for path in _files(folder) if (found := file.fullmatch(path.name))}
    if not launches:
        raise NotFound(
            f"{name}: there is no output of a proc of that name in {folder}; `procession ps` lists the procs"
        )
    last = launches[max(launches)]
    for put_aside in range(config.LOG_KEEP, -1, -1):
        part = last if put_aside == 0 else last.with_name(f"{last.name}.{put_aside}")
        if part.exists():
            sys.stdout.buffer.write(part.read_bytes())
    sys.stdout.flush()
    return 0


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _stop(options: argparse.Namespace) -> int:
    from procession import _control

    code = 0
    for one in _control.ask(options.host, "stop", names=options.names, kill=options.kill):
        print(f"{one['name']}: {one['verdict']}")
        if one["failure"] is not None:
            print(f"procession: {one['name']} could not be asked to end: {one['failure']}", file=sys.stderr)
            code = 1
    return code

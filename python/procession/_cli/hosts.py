"""`procession serve`, and what asks a host that is served: `start`, `ps`, `logs`, `stop`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from procession import config
from procession.errors import InvalidArgument, NotFound

SERVE = """\
Procs that are started with `procession start` outlive the host: when it ends, in whatever way, they go on, with their output
in files below its directory, and the next `procession serve` there takes them over and knows how those ended that died
meanwhile. SIGTERM and SIGINT end the host and leave them.
"""


def add_to(commands: Any) -> None:
    serve = commands.add_parser(
        "serve",
        help="run a host whose procs outlive it",
        description="Runs a host whose procs outlive it.",
        epilog=SERVE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--state", required=True, metavar="DIR", help="its directory, made when it is missing")
    serve.set_defaults(handler=_serve)

    start = _asking(commands, "start", "start a program on a host that is served; it outlives the host")
    start.add_argument("-n", "--procs", type=int, default=1, metavar="N", help="how many processes (default: 1)")
    start.add_argument("--name", required=True, help="process r is called NAME-r")
    start.add_argument("--env", action="append", default=[], metavar="K=V", help="add to the environment")
    start.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    start.usage = "procession start --host DIR --name NAME [options] [--] program [args ...]"
    start.set_defaults(handler=_reported(start, _start))

    ps = _asking(commands, "ps", "list the procs of a host that is served")
    ps.add_argument("--json", action="store_true", help="one JSON object a line")
    ps.set_defaults(handler=_reported(ps, _ps))

    logs = _asking(commands, "logs", "show what a proc has written, also while no host is served")
    logs.add_argument("name", help="of a process")
    logs.add_argument("--stderr", action="store_true", help="its stderr instead of its stdout")
    logs.set_defaults(handler=_reported(logs, _logs))

    stop = _asking(commands, "stop", "end procs of a host that is served, and wait for it")
    stop.add_argument("--kill", action="store_true", help="at once")
    stop.add_argument("names", nargs="+", metavar="NAME", help="of processes")
    stop.set_defaults(handler=_reported(stop, _stop))


def _asking(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument("--host", required=True, metavar="DIR", help="the directory of the host")
    return parser


def _reported(parser: argparse.ArgumentParser, handler: Any) -> Any:
    return partial(_report, parser, handler)


def _report(parser: argparse.ArgumentParser, handler: Any, options: argparse.Namespace) -> int:
    try:
        code: int = handler(options)
        return code
    except InvalidArgument as error:
        parser.error(f"{error.field} = {error.value}: {error.rule}")
    except (NotFound, ConnectionError) as error:
        print(f"procession: {error}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace) -> int:
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

    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        raise InvalidArgument("program", "nothing", "name one")
    env = dict(word.partition("=")[::2] for word in options.env)
    names = _control.ask(
        options.host, "start", name=options.name, count=options.procs, program=program, cwd=os.getcwd(), env=env
    )
    print("\n".join(names))
    return 0


def _ps(options: argparse.Namespace) -> int:
    from procession import _control

    rows = _control.ask(options.host, "list")
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    cells = [("name", "inc", "pid", "status", "started", "verdict")]
    for row in rows:
        started = datetime.fromtimestamp(row["started_at"]).strftime("%Y-%m-%d %H:%M:%S")
        pid = "-" if row["pid"] is None else str(row["pid"])
        cells.append((row["name"], str(row["incarnation"]), pid, row["status"], started, row["verdict"]))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _logs(options: argparse.Namespace) -> int:
    from procession._control import OUTPUT

    ending = "err" if options.stderr else "out"
    folder = Path(options.host) / OUTPUT
    launches = [path for path in folder.glob(f"{options.name}.*.{ending}") if _launch(path) is not None]
    if not launches:
        raise NotFound(f"{options.name}: there is no output of a proc of that name in {folder}")
    last = max(launches, key=lambda path: _launch(path) or 0)
    for put_aside in range(config.LOG_KEEP, -1, -1):
        part = last if put_aside == 0 else last.with_name(f"{last.name}.{put_aside}")
        if part.exists():
            sys.stdout.buffer.write(part.read_bytes())
    sys.stdout.flush()
    return 0


def _launch(path: Path) -> int | None:
    number = path.name.rsplit(".", 2)[1]
    return int(number) if number.isdigit() else None


def _stop(options: argparse.Namespace) -> int:
    from procession import _control

    for name, verdict in zip(
        options.names, _control.ask(options.host, "stop", names=options.names, kill=options.kill), strict=False
    ):
        print(f"{name}: {verdict}")
    return 0

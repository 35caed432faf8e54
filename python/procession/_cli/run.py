"""`procession run`: any program, n times, under one lifecycle."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from procession import _validate, config
from procession._cli.output import Output
from procession.errors import InvalidArgument

if TYPE_CHECKING:
    from procession._exits import ProcExit
    from procession._native import Subscription
    from procession._proc_mesh import ProcMesh
    from procession._shape import Point

EPILOG = """\
Each process finds RANK, LOCAL_RANK and WORLD_SIZE in its environment. Its output is shown with its rank in front. At the
end comes a table of all exits, on stderr. The exit code is that of the first process to fail, 128+n for signal n, and 125
for one that could not be run. Ctrl-C stops gracefully, a second one kills. A program that knows sd_notify may send READY=1.
"""


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="run a program n times",
        description="Runs a program n times and reports how each process ended.",
        epilog=EPILOG,
        usage="procession run [options] -- program [args ...]",
    )
    parser.add_argument("-n", "--procs", type=int, default=1, metavar="N", help="how many processes (default: 1)")
    parser.add_argument(
        "--launcher",
        default="native",
        metavar="WHICH",
        help="native, or module:Class of a ProcLauncher (default: native)",
    )
    parser.add_argument("--name", default=None, help="name of the mesh; process r is called NAME-r")
    parser.add_argument("--cwd", default=None, metavar="DIR", help="working directory")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="K=V",
        help="add to the environment; K alone removes it; may be repeated",
    )
    parser.add_argument(
        "--ready-timeout",
        type=float,
        default=config.READY_TIMEOUT,
        metavar="S",
        help="for launchers that wait for readiness (default: %(default)s)",
    )
    parser.add_argument(
        "--stop-grace",
        type=float,
        default=config.STOP_GRACE,
        metavar="S",
        help="seconds for each step of a stop (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout: output, exits, result")
    parser.add_argument("program", nargs="*", help=argparse.SUPPRESS)
    parser.set_defaults(handler=run)


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if not options.program:
        parser.error("name a program after --")
    from procession import _native

    with _Interrupts() as interrupts:
        try:
            subscription = _native.Subscription(output=True, lifecycle=False)
            procs = _spawn(options, subscription)
        except (InvalidArgument, NotImplementedError, TypeError) as error:
            parser.error(str(error))
        interrupts.stop_these(procs)
        return _follow(procs, subscription, interrupts, Output(as_json=options.json))


def _spawn(options: argparse.Namespace, subscription: Subscription) -> ProcMesh:
    from procession._host_mesh import this_host

    count = _validate.count("-n", options.procs, least=1, most=config.MAX_PROCS)
    given = _environment(options.env)

    def env(point: Point) -> dict[str, str | None]:
        rank = str(point.rank)
        return {**given, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(count)}

    return (
        this_host()
        ._followed_by(subscription)
        .spawn_procs(
            per_host={"procs": count},
            name=options.name,
            bootstrap_command=options.program,
            launcher=_launcher(options.launcher),
            readiness="none",
            env=env,
            cwd=options.cwd,
            ready_timeout=options.ready_timeout,
            stop_grace=options.stop_grace,
        )
    )


def _follow(procs: ProcMesh, subscription: Subscription, interrupts: _Interrupts, output: Output) -> int:
    """Shows what comes until all have ended."""
    while (given := subscription.next(None)) is not None:
        output.line(given)
    exits = list(procs.wait().get().values())
    code = _code(exits)
    if interrupts.signal is not None and any(one.requested for one in exits):
        code = 128 + interrupts.signal
    output.finish(exits, code)
    return code


class _Interrupts:
    """SIGINT and SIGTERM: the first stops gracefully, the next kills. They interrupt nothing that is being printed."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._procs: ProcMesh | None = None
        self._stopping = False

    def stop_these(self, procs: ProcMesh) -> None:
        self._procs = procs

    def _handle(self, number: int, _: object) -> None:
        self.signal = number
        if self._procs is None:
            raise SystemExit(128 + number)
        if self._stopping:
            self._procs.kill()
            self._say("killing")
        else:
            self._stopping = True
            self._procs.stop("interrupted")
            self._say("stopping; interrupt again to kill")

    def _say(self, text: str) -> None:
        with suppress(OSError):
            os.write(2, f"procession: {text}\n".encode())  # not print: that may be what was interrupted

    def __enter__(self) -> _Interrupts:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _code(exits: list[ProcExit]) -> int:
    failed = [one for one in exits if not one.ok]
    return min(failed, key=lambda one: one.ended_at).shell_code if failed else 0


def _environment(words: list[str]) -> dict[str, str | None]:
    pairs = (word.partition("=") for word in words)
    return {key: value if equals else None for key, equals, value in pairs}


def _launcher(text: str) -> Any:
    if text == "native":
        return None
    from importlib import import_module

    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise InvalidArgument("--launcher", _validate.shown(text), "has to be native, or module:Class")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it; the script of an installed command does not
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InvalidArgument("--launcher", _validate.shown(text), str(error)) from None

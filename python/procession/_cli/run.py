"""`procession run`: any program, n times, under one lifecycle."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from procession import _validate, config
from procession._cli import spawning
from procession._cli.command import add_command, environment, program_of, refuse
from procession._cli.output import Output, Unwritable
from procession._cli.spawning import add_limits, add_restart, limits_of, restart_of
from procession._restart import Restart
from procession.errors import InvalidArgument, LauncherUnavailable

if TYPE_CHECKING:
    from procession._exits import ProcExit
    from procession._native import Subscription
    from procession._proc_mesh import ProcMesh
    from procession._shape import Point

EPILOG = """\
Options end where the program begins. Each process finds RANK, LOCAL_RANK and WORLD_SIZE in its environment. Its output is
shown with its rank in front of each line, and a line of over 64 KiB in several; a process that writes faster than its output
is read waits. At the end comes a table of all exits, on stderr, of processes that were run again too. One that fails does not end the others. Ctrl-C stops
gracefully, a second one kills. Its stdin is empty. A program that knows sd_notify may send READY=1.

exit codes: that of the first process in time to fail for good; 128+n for signal n, of the process or of an interrupt; 125 for a
process that could not be run; 141 when whoever read the output is gone, 74 when it cannot be written, and then the
processes are stopped; 2 for an error of usage
"""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OWN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
TYPED = spawning.TYPED | {
    "log_dir": "--log-dir",
    "log_keep": "--log-keep",
    "log_max_bytes": "--log-max-bytes",
    "ready_timeout": "--ready-timeout",
    "stop_grace": "--stop-grace",
}
"""What the command line calls the arguments of `spawn_procs`."""
UNRUNNABLE = 125
"""The exit code where nothing could be run."""
BATCH = 1000
"""Lines that are written at once."""


def add_to(commands: Any) -> None:
    description = "Runs a program n times and reports how each process ended."
    usage = "procession run [options] [--] program [args ...]"
    parser = add_command(
        commands, "run", run, "run a program n times", description=description, epilog=EPILOG, usage=usage
    )
    parser.add_argument("-n", "--procs", type=int, default=1, metavar="N", help="how many processes (default: 1)")
    parser.add_argument(
        "--launcher",
        default="native",
        metavar="WHICH",
        help="native, worker:HOST:PORT, docker:IMAGE, kubernetes:IMAGE, ssh:HOST, systemd, slurm, vm:IMAGE, module:Class, or what `procession launchers` lists (default: native)",
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
    add_restart(parser)
    parser.add_argument(
        "--log-dir",
        default=None,
        metavar="DIR",
        help="write all output to files too: DIR/NAME-r.INCARNATION.out and .err",
    )
    parser.add_argument(
        "--log-max-bytes",
        default=None,
        metavar="SIZE",
        help="put a file aside (.1, .2, ...) before it gets longer: bytes, or 10M and the like",
    )
    parser.add_argument(
        "--log-keep",
        type=int,
        metavar="N",
        help=f"how many files that were put aside are kept of each stream (default: {config.LOG_KEEP})",
    )
    add_limits(parser)
    parser.add_argument(
        "--fold",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show a line once that several processes write within 100 ms (default: on a terminal)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout: output, exits, result")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what the launcher would ask for to start the first process, and start nothing",
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    options.program = program_of(options)
    if options.json and options.fold:
        parser.error("--fold is for people, and --json is not: leave one out")
    if options.dry_run:
        return _dry_run(options)
    from procession import _native

    wanted = sys.stdout.isatty() if options.fold is None else options.fold
    output = Output(as_json=options.json, fold_of=options.procs if wanted and not options.json else 1)
    with _Interrupts() as interrupts:
        try:
            subscription = _native.Subscription(output=True, lifecycle=False)
            procs = _spawn(options, subscription)
        except InvalidArgument as error:
            refuse(options, error, TYPED)
        except (NotImplementedError, TypeError) as error:
            parser.error(str(error))
        except LauncherUnavailable as error:
            output.say(str(error))
            return UNRUNNABLE
        interrupts.stop_these(procs)
        return _follow(procs, subscription, interrupts, output)


def _dry_run(options: argparse.Namespace) -> int:
    from procession.launchers import dry_run

    try:
        print(dry_run(**_asked(options, _count(options))))
    except InvalidArgument as error:
        refuse(options, error, TYPED)
    except (NotImplementedError, TypeError) as error:
        options.parser.error(str(error))
    except RuntimeError as error:
        print(f"procession: {error}", file=sys.stderr)
        return UNRUNNABLE
    return 0


def _spawn(options: argparse.Namespace, subscription: Subscription) -> ProcMesh:
    from procession._host_mesh import this_host

    count = _count(options)
    return this_host()._followed_by(subscription).spawn_procs(per_host={"procs": count}, **_asked(options, count))


def _count(options: argparse.Namespace) -> int:
    return _validate.count("-n", options.procs, least=1, most=config.MAX_PROCS)


def _asked(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """The arguments of `spawn_procs` for so many, but their shape."""
    program, *words = options.program
    if options.cwd is None and "/" in program:
        program = os.path.abspath(program)  # as a shell finds it
    given = environment(options.env, OWN_VARIABLES)
    longest = options.log_max_bytes

    def env(point: Point) -> dict[str, str | None]:
        rank = str(point.rank)
        return {**given, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(count)}

    return {
        "name": options.name,
        "bootstrap_command": [program, *words],
        "launcher": launcher_named(options.launcher),
        "readiness": "none",
        "env": env,
        "cwd": options.cwd,
        "restart": Restart(**restart_of(options)),
        "ready_timeout": options.ready_timeout,
        "stop_grace": options.stop_grace,
        "log_dir": options.log_dir,
        "log_max_bytes": None if longest is None else _validate.size("log_max_bytes", longest),
        "log_keep": _log_keep(options),
        **limits_of(options),
    }


def _log_keep(options: argparse.Namespace) -> int:
    if options.log_keep is None:
        return config.LOG_KEEP
    if options.log_dir is None:
        options.parser.error("--log-keep: give the directory of the files too, with --log-dir")
    keep: int = options.log_keep
    return keep


def _follow(procs: ProcMesh, subscription: Subscription, interrupts: _Interrupts, output: Output) -> int:
    """Shows what comes until all have ended."""
    broken: Unwritable | None = None
    while broken is None:
        try:
            output.lines(_next_lines(subscription, output.patience()))
            if subscription.ended:
                output.flush()
                break
        except Unwritable as error:
            broken = error
            output.say(f"{error}; stopping")
            procs.stop(str(error))
    while not subscription.ended:
        _next_lines(subscription, None)
    exits = list(procs.wait().get().values())
    code = _code(exits)
    if interrupts.signal is not None and any(one.requested for one in exits):
        code = 128 + interrupts.signal
    try:
        output.finish(list(procs.history().values()), code)
    except Unwritable as error:
        broken = error
        output.say(str(error))
    return code if broken is None else broken.code


def _next_lines(subscription: Subscription, patience: float | None) -> list[dict[str, Any]]:
    """What has come, at least one line of it; nothing after `patience`, and when all have ended."""
    lines = []
    given = subscription.next(patience)
    while given is not None:
        lines.append(given)
        given = subscription.next(0.0) if len(lines) < BATCH else None
    return lines


class _Interrupts:
    """SIGINT, SIGTERM and SIGHUP: the first stops gracefully, the next kills, one more waits for nothing any longer."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._procs: ProcMesh | None = None
        self._count = 0

    def stop_these(self, procs: ProcMesh) -> None:
        self._procs = procs

    def _handle(self, number: int, _: object) -> None:
        self.signal = number
        self._count += 1
        if self._procs is None or self._count > 2:
            raise SystemExit(128 + number)
        if self._count == 1:
            self._procs.stop("interrupted")
            self._say("stopping; interrupt again to kill")
        else:
            self._procs.kill()
            self._say("killing")

    def _say(self, text: str) -> None:
        with suppress(OSError):
            os.write(2, f"procession: {text}\n".encode())  # not print: that may be what was interrupted

    def __enter__(self) -> _Interrupts:
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _code(exits: list[ProcExit]) -> int:
    failed = [one for one in exits if not one.ok]
    return min(failed, key=lambda one: one.ended_at).shell_code if failed else 0


def launcher_named(text: str) -> Any:
    """What `--launcher` stands for."""
    from procession.launchers import by_name

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it; the script of an installed command does not
    try:
        return by_name(text)
    except InvalidArgument as error:
        raise InvalidArgument("--launcher", error.value, error.rule) from None

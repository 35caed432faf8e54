"""`procession agent`: launches procs for whoever speaks over its stdin and stdout."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

from procession._cli.command import add_command, refuse
from procession.errors import InvalidArgument

EPILOG = """\
It is started by launchers, at the other end of a command: launchers.Ssh, launchers.Command. Procs that it launches reach their
host through that same command, and end when it ends, or when nothing was heard of it for as long as --lease.
"""
TYPED = {"lease": "--lease"}


def add_to(commands: Any) -> None:
    summary = "launch procs for whoever is at the other end of stdin and stdout"
    parser = add_command(commands, "agent", _agent, summary, epilog=EPILOG)
    parser.add_argument("--stdio", action="store_true", required=True, help="speak over stdin and stdout")
    parser.add_argument(
        "--lease",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long nothing may be heard before all that was launched is ended (default: 30)",
    )


def _agent(options: argparse.Namespace) -> int:
    if sys.stdin.isatty() or sys.stdout.isatty():
        options.parser.error("it speaks over stdin and stdout, and these are a terminal: launchers start it")
    from procession import _native

    # Nothing of Python runs meanwhile that could handle it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        _native.serve_stdio(sys.executable or None, options.lease)
    except InvalidArgument as error:
        refuse(options, error, TYPED)
    except RuntimeError as error:
        print(f"procession: {error}; start it with stdin and stdout that lead to whoever launches", file=sys.stderr)
        return 1
    return 0

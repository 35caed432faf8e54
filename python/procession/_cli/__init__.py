"""The command line: what is data goes to stdout, what is talk to stderr."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from procession._cli import agent, conformance, doctor, gc, hosts, launchers, run, why


def run_cli(argv: Sequence[str]) -> int:
    """Gives the exit code; argparse exits by itself for --help, --version and errors of usage (2)."""
    _have_standard_streams()
    parser = argparse.ArgumentParser(
        prog="procession", description="Launches fleets of processes and never loses track of one."
    )
    parser.add_argument("--version", action="version", version=f"procession {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run.add_to(commands)
    why.add_to(commands)
    doctor.add_to(commands)
    launchers.add_to(commands)
    conformance.add_to(commands)
    hosts.add_to(commands)
    agent.add_to(commands)
    gc.add_to(commands)
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")  # with the usage of the command
    try:
        code: int = options.handler(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        code = 128 + signal.SIGPIPE
    except OSError as error:
        print(f"procession: {error}", file=sys.stderr)
        code = 1
    else:
        return code
    # What is still buffered would raise again at the end of the interpreter.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _version() -> str:
    from procession import _native

    return _native.__version__


def _have_standard_streams() -> None:
    """A stream that the caller has closed discards: else what is opened next would get its number, and its output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show is no reason to stop

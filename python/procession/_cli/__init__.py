"""The command line: what is data goes to stdout, what is talk to stderr."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from procession._cli import run


def run_cli(argv: Sequence[str]) -> int:
    """Gives the exit code; argparse exits by itself for --help, --version and errors of usage (2)."""
    parser = argparse.ArgumentParser(
        prog="procession", description="Launches fleets of processes and never loses track of one."
    )
    parser.add_argument("--version", action="version", version=f"procession {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run.add_to(commands)
    own, program = _split(argv)
    options = parser.parse_args(own)
    options.program = [*options.program, *program]
    code: int = options.handler(parser, options)
    return code


def _version() -> str:
    from procession import _native

    return _native.__version__


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is ours, and what comes after the first `--`."""
    words = list(argv)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]

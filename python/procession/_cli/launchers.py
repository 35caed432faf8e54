"""`procession launchers`: what can be named as a launcher, and whether it can be used."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from typing import Any

from procession._cli.command import add_command

EPILOG = """\
Each line: the name, which `procession run --launcher` takes, what kind of launcher it is, whether it can be used here, and if not
why. Installed distributions add theirs as entry points of the group procession.launchers. What is not listed is named as
module:Class, or as a file in TOML. The exit code is 0, whatever can be used. With KIND: what one takes, and its defaults.
"""


def add_to(commands: Any) -> None:
    summary, description = (
        "what can be named as a launcher",
        "Lists the launchers that can be named, and whether each can be used here.",
    )
    parser = add_command(commands, "launchers", _launchers, summary, description=description, epilog=EPILOG)
    parser.add_argument(
        "kind", nargs="?", metavar="KIND", help="show what one of them takes: docker, kubernetes, ssh, slurm, ..."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line: name, kind, status, reason")


def _launchers(options: argparse.Namespace) -> int:
    if options.kind is not None:
        return _fields(options)
    from dataclasses import asdict

    from procession._exits import in_columns
    from procession.launchers import available

    with redirect_stdout(sys.stderr):  # what modules print while they are imported is no data
        infos = available()
    if options.json:
        print("".join(json.dumps(asdict(one)) + "\n" for one in infos), end="")
        return 0
    rows = [(one.name, one.kind, one.status, one.reason.partition("\n")[0] or "-") for one in infos]
    print(in_columns([("name", "kind", "status", "reason"), *rows]))
    return 0


def _fields(options: argparse.Namespace) -> int:
    from inspect import getdoc

    from procession._launcher_files import fields_of, kinds

    cls = kinds().get(options.kind)
    if cls is None:
        parser: argparse.ArgumentParser = options.parser
        parser.error(f"KIND = {options.kind}: give one of {', '.join(kinds())}")
    print(
        f"launchers.{cls.__name__}; in a file for --launcher FILE.toml: launcher = {options.kind!r}\n\n{getdoc(cls)}\n\ndefaults:"
    )
    for name, one in fields_of(cls).items():
        print(f"    {name}: {'has to be given' if one.default is one.empty else repr(one.default)}")
    return 0

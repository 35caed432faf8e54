"""What commands have in common: how they are declared, and how what is refused is shown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from procession.errors import InvalidArgument

Handler = Callable[[argparse.Namespace], int]


def add_command(
    commands: Any, name: str, handler: Handler, summary: str, *, description: str | None = None, **kwargs: Any
) -> argparse.ArgumentParser:
    """A command whose handler gets the options, its parser among them, and gives the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **kwargs,
    )
    parser.set_defaults(handler=handler, parser=parser)
    return parser


def program_of(options: argparse.Namespace) -> list[str]:
    """The program and its arguments, from `nargs=REMAINDER`; an error of usage where none is named."""
    words: list[str] = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not words:
        options.parser.error("name a program")
    return words


def environment(words: list[str], own: tuple[str, ...] = ()) -> dict[str, str | None]:
    """`K=V` sets, `K` alone removes; `own` are those that every process gets one of."""
    given = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key in own:
            raise InvalidArgument(f'env["{key}"]', "…", "every process gets one of its own; take another name")
        given[key] = value if equals else None
    return given


def as_typed(field: str, typed: Mapping[str, str]) -> str:
    """What the command line calls an argument: by `typed`, of the whole or of what stands before its key."""
    if field in typed:
        return typed[field]
    name = field.partition("[")[0].partition(" ")[0]
    rest = field[len(name) :].replace('["', " ").removesuffix('"]')
    return typed[name] + rest if name in typed else field


def refuse(options: argparse.Namespace, error: InvalidArgument, typed: Mapping[str, str]) -> NoReturn:
    """An error of usage."""
    parser: argparse.ArgumentParser = options.parser
    parser.error(f"{as_typed(error.field, typed)} = {error.value}: {error.rule}")


def moment(seconds: float) -> str:
    """A time since the epoch, for tables."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")

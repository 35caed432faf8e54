"""What a program of this suite tells its runner: facts, one a line, that have to be the same on both libraries.

A fact is a name and a value that JSON has. It is printed at once, so that a program that dies has told what it knew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MARK = "FACT "

# What a caller names in an `except`: the built-in types, and these two of the API.
NAMED = ("ActorError", "SupervisionError")


def fact(name: str, value: Any) -> None:
    """Tells that `name` is `value`; each name once in a program."""
    sys.stdout.write(f"\n{MARK}{json.dumps([name, value])}\n")
    sys.stdout.flush()


def kind(error: BaseException | None) -> str:
    """The type by which a user catches `error`: the nearest that is built in, or public in both libraries."""
    for cls in type(error).__mro__:
        if cls.__module__ == "builtins" or cls.__name__ in NAMED:
            return cls.__name__
    raise AssertionError("every class has a built-in base")


@contextmanager
def raises(name: str, *words: str) -> Iterator[None]:
    """Tells what the block raises, by its kind; with `words`, for each whether the text of the error has it."""
    try:
        yield
    except BaseException as error:
        text = str(error)
        fact(name, [kind(error), *(word in text for word in words)] if words else kind(error))
    else:
        fact(name, "nothing")


def tried(name: str, function: Callable[[], Any]) -> None:
    """Tells what `function` gives, or the kind of what it raises."""
    try:
        value = function()
    except BaseException as error:
        value = f"raises {kind(error)}"
    fact(name, value)


def lives(pid: int) -> bool:
    """Whether the process runs; one that has ended and is not reaped yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

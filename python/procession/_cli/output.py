"""What `procession run` prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from procession._exits import exit_table

if TYPE_CHECKING:
    from procession._exits import ProcExit

COLORS = (36, 33, 32, 35, 34, 31)


class Output:
    """Lines of the procs and, at the end, their exits: for people, or as one JSON object a line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._color = not as_json and sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._closed: set[TextIO] = set()

    def line(self, given: Mapping[str, Any]) -> None:
        """One line that a proc has written, or how many were dropped."""
        rank, stream = given["rank"], given["stream"]
        dropped = given["kind"] == "dropped"
        text = f"… {given['count']} lines were not kept up with" if dropped else given["line"]
        if self._as_json:
            what = {"count": given["count"]} if dropped else {"line": text}
            self._json(event=given["kind"], rank=rank, stream=stream, **what)
            return
        prefix = f"[{rank}]"
        if self._color:
            prefix = f"\x1b[{COLORS[rank % len(COLORS)]}m{prefix}\x1b[0m"
        self._print(sys.stderr if stream == "stderr" else sys.stdout, f"{prefix} {text}")

    def finish(self, exits: Sequence[ProcExit], code: int) -> None:
        """How each ended."""
        if self._as_json:
            for one in exits:
                self._json(event="exit", **asdict(one))
            self._json(event="result", exit_code=code)
        else:
            self._print(sys.stderr, exit_table(exits))

    def _json(self, **fields: Any) -> None:
        import json

        self._print(sys.stdout, json.dumps(fields))

    def _print(self, stream: TextIO, text: str) -> None:
        """A reader that is gone (`| head`) silences its stream, and nothing else."""
        if stream in self._closed:
            return
        try:
            print(text, file=stream, flush=True)
        except BrokenPipeError:
            self._closed.add(stream)
            # What is still buffered would raise again at the end of the interpreter.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

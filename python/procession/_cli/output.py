"""What `procession run` prints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from procession._exits import exit_table
from procession._fold import Fold, prefix_and_suffix

if TYPE_CHECKING:
    from procession._exits import History

COLORS = (36, 33, 32, 35, 34, 31)
READER_GONE = 128 + 13
"""The exit code of a program that SIGPIPE ends."""
UNWRITABLE = 74
"""EX_IOERR of sysexits.h."""


class Unwritable(Exception):
    """What a stream of this process was to show could not be written."""

    def __init__(self, stream: TextIO, cause: OSError) -> None:
        super().__init__(f"{stream.name.strip('<>')} cannot be written: {cause.strerror}")
        self.code = READER_GONE if isinstance(cause, BrokenPipeError) else UNWRITABLE


class Output:
    """Lines of the procs and, at the end, their exits: for people, or as one JSON object a line."""

    def __init__(self, *, as_json: bool, fold_of: int = 1) -> None:
        """`fold_of`: of how many ranks lines are shown once; 1 shows each."""
        self._as_json = as_json
        self._fold = Fold(fold_of) if fold_of > 1 else None
        self._color = not as_json and sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._silenced: set[TextIO] = set()
        self._dropped = 0

    def patience(self) -> float | None:
        """Seconds until a line has to be shown that waits for its like; None when none does."""
        return None if self._fold is None else self._fold.wait(time.monotonic())

    def lines(self, given: Iterable[Mapping[str, Any]]) -> None:
        """What procs have written, and how many lines are missing where some are. Raises Unwritable."""
        if self._fold is None:
            self._show((one, {one["rank"]}) for one in given)
            return
        now = time.monotonic()
        for one in given:
            self._fold.add(one, one["rank"], now)
        self._show((one.given, one.ranks) for one in self._fold.due(now))

    def flush(self) -> None:
        """Shows what waits for its like. Raises Unwritable."""
        if self._fold is not None:
            self._show((one.given, one.ranks) for one in self._fold.rest())

    def _show(self, given: Iterable[tuple[Mapping[str, Any], set[int]]]) -> None:
        texts: dict[TextIO, list[str]] = {}
        for one, ranks in given:
            stream = sys.stderr if one["stream"] == "stderr" and not self._as_json else sys.stdout
            texts.setdefault(stream, []).append(self._json_line(one) if self._as_json else self._line(one, ranks))
            self._dropped += one.get("count", 0)
        for stream, lines in texts.items():
            self._write(stream, lines)

    def say(self, text: str) -> None:
        """Something for people, beside the output."""
        self._talk(f"procession: {text}")

    def finish(self, ranks: Sequence[History], code: int) -> None:
        """How all launches of each rank ended, and whether all that they wrote was shown. Raises Unwritable where that is data."""
        if self._dropped:
            self.say(f"{self._dropped} lines were not shown: they came faster than they could be passed on")
        older = sum(history.dropped for history in ranks)
        if older:
            self.say(f"{older} earlier ends of processes that were run again are not shown")
        if self._as_json:
            results = [
                _json(event="exit", **one.as_dict(), final=one is history.exits[-1])
                for history in ranks
                for one in history.exits
            ]
            self._write(sys.stdout, [*results, _json(event="result", exit_code=code, dropped=self._dropped)])
        else:
            self._talk(exit_table(one for history in ranks for one in history.exits))

    def _line(self, one: Mapping[str, Any], ranks: set[int]) -> str:
        prefix, suffix = prefix_and_suffix(ranks)
        if self._color and len(ranks) == 1:
            prefix = f"\x1b[{COLORS[one['rank'] % len(COLORS)]}m{prefix}\x1b[0m"
        text = f"… {one['count']} lines were not kept up with" if one["kind"] == "dropped" else one["line"]
        return f"{prefix} {text}{suffix}"

    def _json_line(self, one: Mapping[str, Any]) -> str:
        known = {key: one[key] for key in ("rank", "stream", "line", "count", "ends") if key in one}
        return _json(event=one["kind"], **known)

    def _write(self, stream: TextIO, lines: list[str]) -> None:
        if stream in self._silenced:
            return
        try:
            stream.write("\n".join([*lines, ""]))
            stream.flush()
        except OSError as error:
            self._silenced.add(stream)
            # What is still buffered would raise again at the end of the interpreter.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise Unwritable(stream, error) from None

    def _talk(self, text: str) -> None:
        with suppress(Unwritable):  # nobody is there to be told
            self._write(sys.stderr, [text])


def _json(**fields: Any) -> str:
    import json

    return json.dumps(fields)

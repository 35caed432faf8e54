"""Exceptions as they travel: each with its own type where that can be rebuilt, and with what it was raised from."""

from __future__ import annotations

import pickle
from typing import NamedTuple

from procession import _pickle
from procession.errors import ActorError, NotPicklable, RemoteException

MOST = 64
"""Exceptions of one chain that travel with it; the remote traceback shows all."""


class Record(NamedTuple):
    """One exception. Others are named by their place in the list of records."""

    type_name: str
    text: str
    exact: list[bytes] | None
    """Its pickle; None where it would not load."""
    trouble: str
    """Why it would not."""
    notes: list[str]
    cause: int | None
    context: int | None
    suppress_context: bool
    message: str
    """Of a group."""
    parts: list[int] | None
    """Of a group."""


def text_of(error: BaseException) -> str:
    """`str(error)`, whatever its `__str__` does."""
    for render in (str, repr):
        try:
            return render(error)
        except Exception:
            continue
    return "<error formatting exception>"


def flatten(error: BaseException) -> list[Record]:
    """The records of `error`, the first, and of all that it was raised from or consists of."""
    places: dict[int, int] = {}
    found: list[BaseException] = []

    def place(one: BaseException | None) -> int | None:
        if one is None:
            return None
        if id(one) not in places and len(found) < MOST:
            places[id(one)] = len(found)
            found.append(one)
        return places.get(id(one))

    place(error)
    records: list[Record] = []
    while len(records) < len(found):  # which grows meanwhile
        one = found[len(records)]
        group = one if isinstance(one, BaseExceptionGroup) else None
        parts = None if group is None else [at for part in group.exceptions if (at := place(part)) is not None]
        exact, trouble = _pickled(one)
        kind = type(one)
        records.append(
            Record(
                f"{kind.__module__}.{kind.__qualname__}",
                text_of(one),
                exact,
                trouble,
                [str(note) for note in getattr(one, "__notes__", None) or ()],
                place(one.__cause__),
                place(one.__context__),
                one.__suppress_context__,
                "" if group is None else group.message,
                parts,
            )
        )
    return records


def _pickled(error: BaseException) -> tuple[list[bytes] | None, str]:
    try:
        segments, moved = _pickle.dumps(error)
        if moved:
            raise NotPicklable("it carries a port, which an exception cannot")
        exact = [bytes(segment) for segment in segments]
    except Exception as why:
        return None, text_of(why)
    try:
        loaded = pickle.loads(exact[0], buffers=exact[1:])
    except Exception as why:  # some exceptions pickle well and never load again
        return None, (
            f"it could not be rebuilt ({type(why).__name__}: {text_of(why)}): give all arguments on to "
            "super().__init__(), or define __reduce__"
        )
    if not isinstance(loaded, BaseException):
        return None, f"what it pickles as is a {type(loaded).__qualname__}, and no exception"
    return exact, ""


def rebuild(records: list[Record]) -> BaseException:
    """The first of `records`, with all that belongs to it. What has no type of its own here is a RemoteException."""
    made = [_load(record) for record in records]
    for at in reversed(range(len(records))):
        record = records[at]
        if record.parts and isinstance(made[at], RemoteException):
            made[at] = _group_of(record, made[at], [made[part] for part in record.parts])
    for record, one in zip(records, made, strict=True):
        # What a group has brought itself is what is to be linked.
        if record.parts and isinstance(one, BaseExceptionGroup) and len(record.parts) == len(one.exceptions):
            for part, itself in zip(record.parts, one.exceptions, strict=True):
                made[part] = itself
    for record, one in zip(records, made, strict=True):
        if record.cause is not None:
            one.__cause__ = made[record.cause]
            if isinstance(one, ActorError):
                one.exception = made[record.cause]
        if record.context is not None:
            one.__context__ = made[record.context]
        one.__suppress_context__ = record.suppress_context
    return made[0]


def _load(record: Record) -> BaseException:
    trouble = record.trouble
    if record.exact is not None:
        try:
            loaded = _pickle.loads(record.exact)
            if isinstance(loaded, BaseException):
                _set_notes(loaded, record.notes)
                return loaded
        except Exception as failure:
            trouble = f"its type could not be loaded here: {text_of(failure)}"
    remote = RemoteException(record.type_name, record.text)
    _set_notes(remote, [*record.notes, f"stands for a {record.type_name}: {trouble}"])
    return remote


def _set_notes(error: BaseException, notes: list[str]) -> None:
    if notes:
        error.__notes__ = list(notes)


def _group_of(record: Record, stand_in: BaseException, parts: list[BaseException]) -> BaseException:
    """A group of its parts, so that `except*` finds them."""
    name = record.type_name.removeprefix("builtins.")
    plain = name in ("ExceptionGroup", "BaseExceptionGroup")
    group = BaseExceptionGroup(record.message if plain else f"{name}: {record.message}", parts)
    _set_notes(group, record.notes if plain else stand_in.__notes__)
    return group

"""Answers: what an endpoint returned or raised, as it travels, and what it is at the caller."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

from procession import _native, _pickle
from procession._context import sender
from procession._exceptions import flatten, rebuild, text_of
from procession.errors import ActorError, RemoteException, SupervisionError

if TYPE_CHECKING:
    from types import TracebackType

    from procession._native import Answer, Buffer, PortRef


def take(answer: Answer, endpoint: str | None = None) -> Any:
    """The value of `answer`; raises ActorError for an exception, or the one that was sent through a port, SupervisionError
    when nobody can answer."""
    if answer.outcome == _native.RESULT:
        try:
            return answer.load(sender())
        except Exception as failure:
            what = "a value" if endpoint is None else f"the result of {endpoint}"
            failure.add_note(f"raised while {what} was unpickled here")
            raise
    if answer.outcome == _native.EXCEPTION:
        raise _rebuild(answer, endpoint)
    error = SupervisionError(answer.text if endpoint is None else f"Endpoint call {endpoint}() failed: {answer.text}")
    error.endpoint = endpoint
    raise error


def send_value(port: PortRef, value: object, rank: int | None = None) -> None:
    """Answers with `value`; raises NotPicklable, with nothing sent, when it cannot travel."""
    payload, moved = _pickle.dumps(value, called="result")
    port.send(payload, moved, rank)


def send_exception(port: PortRef, error: BaseException, rank: int | None = None, *, as_itself: bool = False) -> None:
    """Answers with `error`, which is raised inside of an ActorError, or `as_itself`. What of it cannot travel is replaced by
    its text."""
    port.exception(_flatten(error, as_itself), rank, text_of(error))


def format_error(error: BaseException) -> str:
    """The traceback of `error`, from user code on."""
    from traceback import format_exception

    return "".join(format_exception(type(error), error, user_frames(error.__traceback__)))


def user_frames(traceback: TracebackType | None) -> TracebackType | None:
    """`traceback` without the frames of this package at its start."""
    at = traceback
    while at is not None and at.tb_frame.f_globals.get("__name__", "").startswith("procession._"):
        at = at.tb_next
    return at or traceback


def summary(error: BaseException) -> str:
    """One line for people who do not have the exception."""
    if isinstance(error, ActorError):  # whose text is the traceback of what it is about
        return f"{type(error).__qualname__}: {error.message} {summary(error.exception)}"
    first, *more = text_of(error).strip().splitlines() or [""]
    return f"{type(error).__qualname__}: {first}{' …' if more else ''}"


def _flatten(error: BaseException, as_itself: bool) -> list[Buffer]:
    try:
        shown = format_error(error)
    except Exception:
        shown = summary(error) + "\n"
    return [pickle.dumps((flatten(error), shown, os.uname().nodename, as_itself))]


def _rebuild(answer: Answer, endpoint: str | None) -> BaseException:
    message = "A remote actor call has failed." if endpoint is None else f"Actor call {endpoint} failed."
    payload, plain = answer.payload, answer.text
    if not payload:  # sent as text alone
        return ActorError(RemoteException("exception", plain), message, plain)
    records, shown, host, as_itself = pickle.loads(payload[0])
    original = rebuild(records)
    rank = "" if answer.rank is None else f"by rank {answer.rank}, "
    if as_itself and isinstance(original, Exception):  # what ends or cancels its sender does neither to who receives it
        original.add_note(f"sent {rank}on host {host}:\n{shown}")
        return original
    error = ActorError(original, message, shown)
    error.add_note(f"raised {rank}on host {host}")
    return error

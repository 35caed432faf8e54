"""Ports: addresses that a value can be sent to, from any process."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from procession import _answer, _native, _pickle
from procession._future import Future, Missed
from procession._runtime import runtime

if TYPE_CHECKING:
    from procession._native import Answer, PortRef, Waiter

R = TypeVar("R")


class Port(Generic[R]):
    """An address that values can be sent to. It can be passed to any actor; a once port moves, and takes one value."""

    __slots__ = ("_rank", "_ref")

    def __init__(self, ref: PortRef | None, rank: int | None = None) -> None:
        self._ref = ref
        self._rank = rank

    def send(self, value: R) -> None:
        """Sends `value`. A broadcast's port drops it.

        Raises RuntimeError (AlreadyReported, AlreadyMoved) when a once port is spent, NotPicklable for what cannot travel,
        ConnectionError when the receiving process is gone. The port that an endpoint answers on is a once port: a second
        answer raises, and the actor ends when the endpoint lets that out, because nobody waits for it any more.
        """
        if self._ref is None:
            return
        if self._ref.style == _native.EXIT:
            self._ref.send_exit(value)
        else:
            _answer.send_value(self._ref, value, self._rank)

    def exception(self, error: BaseException) -> None:
        """Sends `error`, which is raised at the receiver, with a note that has its traceback. What an endpoint raises, instead
        of sending it, is raised inside of an ActorError; so is what is no Exception, such as SystemExit."""
        if self._ref is None:
            return
        if self._ref.style == _native.EXIT:
            self._ref.exception_exit(error)
        else:
            _answer.send_exception(self._ref, error, self._rank, as_itself=True)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for its value any more, because the call that it answers was cancelled or has run into
        its deadline. What is sent then is dropped."""
        return self._ref is not None and self._ref.cancelled

    def __reduce__(self) -> tuple[Any, ...]:
        if self._ref is None:
            return Port, (None,)
        _pickle.moving(self._ref)
        return _claim, (self._ref.port_id, self._ref.once, self._rank)

    def __repr__(self) -> str:
        return f"<Port {'of a broadcast' if self._ref is None else self._ref.port_id}>"


def _claim(port_id: str, once: bool, rank: int | None) -> Port[Any]:
    return Port(_native.claim_port(port_id, once), rank)


class PortReceiver(Generic[R]):
    """The receiving end of a port."""

    __slots__ = ("_receiver",)

    def __init__(self, receiver: _native.PortReceiver) -> None:
        self._receiver = receiver

    def recv(self) -> Future[R]:
        """The next value. It is taken when it is waited for, by whichever waiter asks first, and not by `done()`."""
        return self._receive(_answer.take)

    def ranked(self) -> RankedPortReceiver[R]:
        """The same values, each with the rank that sent it."""
        return RankedPortReceiver(self._receiver)

    def close(self) -> None:
        """Receives no more; what is sent later is dropped."""
        self._receiver.close()

    def _receive(self, decode: Any) -> Future[Any]:
        taken: list[Answer] = []

        def pending() -> Waiter | None:
            if taken:
                return None
            waiter = self._receiver.waiter()
            return None if waiter.done() else waiter

        def finish() -> Any:
            if not taken:
                # In one call without bytecode, so that no signal handler can raise while an answer is in nobody's hands.
                taken.extend(islice(iter(self._receiver.try_recv, None), 1))
            if not taken:
                raise Missed
            return decode(taken[0])

        return Future._of(pending, finish)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._receiver.port_id}>"


class RankedPortReceiver(PortReceiver[R]):
    """Receives pairs of rank and value; the rank is None for what was not sent by an endpoint."""

    __slots__ = ()

    def recv(self) -> Future[tuple[int | None, R]]:  # type: ignore[override]
        return self._receive(lambda answer: (answer.rank, _answer.take(answer)))


class Channel(Generic[R]):
    """Opens ports. `Channel[int].open()` is typed."""

    @staticmethod
    def open(once: bool = False) -> tuple[Port[R], PortReceiver[R]]:
        """A port and its receiver. A once port takes exactly one value, and its receiver errs when none can come."""
        node = runtime()
        ref, receiver = node.open_once_port() if once else node.open_port()
        return Port(ref), PortReceiver(receiver)

    @staticmethod
    def open_ranked(once: bool = False) -> tuple[Port[R], RankedPortReceiver[R]]:
        """As `open`, with a receiver that gives ranks too."""
        port, receiver = Channel[R].open(once)
        return port, receiver.ranked()

"""The calling side: everything is sent when the call is made, not when its result is awaited."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, ParamSpec, TypeVar, cast

from procession import _answer, _native, _pickle, _validate
from procession._context import sender
from procession._future import Future, gather, on_event_loop, when_done
from procession._value_mesh import ValueMesh
from procession.errors import CallTimeout

if TYPE_CHECKING:
    from datetime import timedelta

    from procession._actor import EndpointProperty
    from procession._actor_mesh import ActorMesh
    from procession._native import ActorRef, Answer, Method, Replies, Waiter
    from procession._port import Port

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
Selection = Literal["all", "choose"]

CO_VARARGS, CO_VARKEYWORDS = 0x04, 0x08


class Endpoint(Generic[P, R]):
    """One endpoint of all actors of a mesh."""

    __slots__ = ("_explicit", "_mesh", "_method", "_name", "_short", "_timeout")

    def __init__(
        self,
        mesh: ActorMesh[Any],
        name: str,
        method: Callable[..., Any],
        explicit: bool,
        timeout: float | None = None,
    ) -> None:
        self._mesh = mesh
        self._name = name
        self._method = method
        self._explicit = explicit
        self._timeout = timeout
        self._short = self._short_way() if len(mesh._refs) == 1 and timeout is None else None

    def options(self, *, timeout: float | timedelta | None) -> Endpoint[P, R]:
        """The same endpoint, each of whose calls has a deadline, `timeout` seconds after it is made; None: without one.

        What is not answered then is cancelled as by `Future.cancel`, whether or not anybody waits for it, and the future
        raises `errors.CallTimeout`, a TimeoutError. A broadcast, and a `send`, have no answer to wait for and are refused.
        """
        seconds = _validate.wait_seconds("timeout", timeout)
        return Endpoint(self._mesh, self._name, self._method, self._explicit, seconds)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Future[ValueMesh[R]]:
        """Calls every actor. The future has all results by rank, or raises the first exception as soon as it comes."""
        mesh = self._mesh
        replies = self._send(mesh._refs, args, kwargs)
        extent = mesh.extent
        taken: list[Answer | None] = []
        values: list[R] = []

        def finish() -> ValueMesh[R]:
            if values or replies.fill(values):
                return ValueMesh(extent, values)
            bad = replies.first_bad()
            ranks = range(len(replies)) if bad is None else [bad]
            return ValueMesh(extent, self._take(replies, ranks, taken))

        return when_done(replies.all_done(), finish, replies.cancel)

    def call_one(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Calls the one actor of this mesh; ValueError when there are several."""
        if self._short is not None and not kwargs:
            replies = self._short.ask(args, sender())
            if replies is not None:
                return _OneAnswer._of_call(self, replies)
        refs = self._mesh._refs
        if len(refs) != 1:
            raise ValueError(f"call_one requires exactly 1 actor, but mesh has {len(refs)}: slice it, or use call")
        return self._one(refs, args, kwargs)

    def choose(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Calls one actor, each in its turn."""
        return self._one([self._mesh._next_ref()], args, kwargs)

    def stream(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[Future[R]]:
        """Calls every actor. The iterator gives a future for each, and they complete in the order of the answers."""
        replies = self._send(self._mesh._refs, args, kwargs)

        def nth(place: int) -> Future[R]:
            taken: list[Answer | None] = []

            def finish() -> R:
                position = replies.nth(place)
                return cast(R, self._take(replies, [cast(int, position)], taken)[0])

            return when_done(replies.nth_done(place), finish, replies.cancel)

        return iter([nth(place) for place in range(len(replies))])

    def broadcast(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Sends to every actor and waits for nothing. An exception ends the actor that raised it."""
        if self._short is not None and not kwargs and self._short.tell(args, sender()):
            return
        self._send_one_way(self._mesh._refs, args, kwargs)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Only on the actor itself, where an endpoint is its plain method."""
        raise TypeError(
            f"{self._label} is an endpoint of other actors: use .call(), .call_one(), .choose(), .stream() or .broadcast()"
        )

    def _one(self, refs: Sequence[ActorRef], args: Any, kwargs: Any) -> Future[R]:
        return _OneAnswer._of_call(self, self._send(refs, args, kwargs))

    def _short_way(self) -> Method | None:
        """None where every call has to be looked at more closely."""
        takes = positional(self._method, 1 + self._explicit)
        if takes is None:
            return None
        mesh, styles = self._mesh, (self._style, self._style_one_way)
        return _native.Method.of(mesh._refs[0], self._name, styles, takes, mesh._message_region)

    def _send(self, refs: Sequence[ActorRef], args: Any, kwargs: Any) -> Replies:
        payload, moved = self._pack(args, kwargs)
        return _native.call(refs, self._name, self._style, payload, moved, sender(), None, self._timeout)

    def _send_one_way(self, refs: Sequence[ActorRef], args: Any, kwargs: Any) -> None:
        self._refuse_timeout("a broadcast waits for no answer: use call, call_one, choose or stream")
        payload, moved = self._pack(args, kwargs)
        _native.call(refs, self._name, self._style_one_way, payload, moved, sender())

    def _refuse_timeout(self, why: str) -> None:
        if self._timeout is not None:
            _validate.refuse("timeout", self._timeout, f"{why}, or the endpoint with options(timeout=None)")

    @property
    def _style(self) -> int:
        return _native.EXPLICIT if self._explicit else _native.RETURNS

    @property
    def _style_one_way(self) -> int:
        return _native.EXPLICIT_ONE_WAY if self._explicit else _native.ONE_WAY

    def _pack(self, args: Any, kwargs: Any) -> tuple[list[_native.Buffer], list[_native.PortRef]]:
        check_arguments(self._method, 1 + self._explicit, args, kwargs)
        region = self._mesh._message_region
        return _pickle.dumps((args, kwargs) if region is None else (args, kwargs, region))

    def _take(self, replies: Replies, positions: Sequence[int], taken: list[Answer | None]) -> list[Any]:
        """The values at `positions`. Whoever is interrupted and calls again passes the same list, with the answers."""
        if not taken:
            # In one call without bytecode, so that no signal handler can raise while an answer is in nobody's hands.
            taken.extend(map(replies.take, positions))
        return [self._open(answer, place, replies) for answer, place in zip(taken, positions, strict=True)]

    def _open(self, answer: Answer | None, position: int, replies: Replies) -> Any:
        if answer is None:
            raise AssertionError(f"the answer at {position} was announced and is missing")
        if answer.outcome >= _native.CANCELLED:
            raise self._given_up(answer.outcome, replies)
        try:
            return _answer.take(answer, self._label)
        except Exception as error:
            if len(replies) > 1:
                error.add_note(f"rank {position} of {len(replies)}: {self._mesh._refs[position].actor_id}")
            raise

    def _given_up(self, outcome: int, replies: Replies) -> Exception:
        if outcome == _native.TIMED_OUT and self._timeout is not None:
            return CallTimeout(self._label, self._timeout, replies.given_up(), len(replies))
        from procession.errors import CallCancelled

        return CallCancelled(f"the call of {self._label}() was cancelled by its caller")

    @property
    def _label(self) -> str:
        return f"{self._mesh._name}.{self._name}"

    def __repr__(self) -> str:
        return f"<Endpoint {self._label} of {self._mesh!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._mesh, self._name, self._explicit, self._timeout)


class _OneAnswer(Future[R]):
    """The answer to a call of one actor."""

    __slots__ = ("_endpoint", "_replies", "_taken")

    _endpoint: Endpoint[..., R]
    _replies: Replies | None
    _taken: list[Answer | None]

    @classmethod
    def _of_call(cls, endpoint: Endpoint[..., R], replies: Replies) -> _OneAnswer[R]:
        future = cls._new()
        future._endpoint = endpoint
        future._replies = replies
        return future

    def get(self, timeout: float | None = None) -> R:
        try:
            replies = self._replies
            if replies is not None and timeout is None and not on_event_loop():
                replies.wait()
                with self._lock:
                    if replies.settle(self):
                        self._let_go()
            return super().get(timeout)
        finally:
            del self

    def _pending(self) -> Waiter | None:
        if self._replies is None:
            return None
        waiter = self._replies.one_done(0)
        return None if waiter.done() else waiter

    def _finish(self) -> R:
        if self._replies is None:
            raise AssertionError("a future was settled twice")
        if not hasattr(self, "_taken"):
            self._taken = []
        return cast(R, self._endpoint._take(self._replies, [0], self._taken)[0])

    def _give_up(self) -> bool:
        return self._replies is not None and self._replies.cancel()

    def _let_go(self) -> None:
        self._replies = None


class NotAnEndpoint:
    """A method of an actor that was not marked as an endpoint."""

    def __init__(self, mesh: ActorMesh[Any], name: str) -> None:
        self._mesh = mesh
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(self._hint())

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(name if name.startswith("_") else self._hint())

    def _hint(self) -> str:
        return (
            f"Actor {self._mesh._class}.{self._name} is not annotated as an endpoint. To call it as one, add a @endpoint "
            "decorator to it, or directly wrap it in one: as_endpoint(mesh.method).call(...)"
        )


def as_endpoint(
    not_an_endpoint: Any, *, propagate: Any = None, explicit_response_port: bool = False
) -> Endpoint[..., Any]:
    """Calls a public method of spawned actors that is not marked as an endpoint: `as_endpoint(mesh.method).call(...)`."""
    if not isinstance(not_an_endpoint, NotAnEndpoint):
        raise ValueError(f"expected a method of a spawned actor, got {not_an_endpoint!r}")
    mesh, name = not_an_endpoint._mesh, not_an_endpoint._name
    return Endpoint(mesh, name, getattr(mesh._class, name), explicit_response_port)


def send(
    endpoint: Endpoint[P, R],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    port: Port[R] | None = None,
    selection: Selection = "all",
) -> None:
    """Sends to all actors, or to a chosen one, and has their answers sent to `port`. Without one it is a broadcast."""
    mesh = endpoint._mesh
    if selection not in ("all", "choose"):
        raise ValueError(f'selection = {selection!r}: use "all" or "choose"')
    refs = mesh._refs if selection == "all" else [mesh._next_ref()]
    if port is None or port._ref is None:
        endpoint._send_one_way(refs, args, kwargs)
        return
    if len(refs) > 1 and port._ref.once:
        raise ValueError(f"a once port takes one answer, and {len(refs)} actors would answer: open one with once=False")
    endpoint._refuse_timeout(
        "the answers go to a port: limit the wait for them there, with receiver.recv().get(timeout)"
    )
    payload, moved = endpoint._pack(args, kwargs)
    _native.send_to_port(refs, endpoint._name, endpoint._style, payload, moved, sender(), port._ref)


class Accumulator(Generic[P, R, A]):
    """Calls an endpoint of every actor and folds the results, in the order in which they come."""

    def __init__(self, endpoint: Endpoint[P, R], identity: A, combine: Callable[[A, R], A]) -> None:
        self._endpoint = endpoint
        self._identity = identity
        self._combine = combine

    def accumulate(self, *args: P.args, **kwargs: P.kwargs) -> Future[A]:
        """The future of the folded value; the calls are sent at once."""
        results = list(self._endpoint.stream(*args, **kwargs))

        def finish() -> A:
            value = self._identity
            for result in results:
                value = self._combine(value, result.get())
            return value

        def cancel() -> bool:
            cancelled = [result.cancel() for result in results]
            return any(cancelled)

        return gather(results, finish, cancel)


def check_arguments(method: Callable[..., Any], leading: int, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """TypeError where the call is made, when `method` could not take these arguments after its `leading` ones."""
    takes = positional(method, leading)
    if takes is not None and not kwargs and takes[0] <= len(args) <= takes[1]:
        return
    from inspect import signature

    signature(method).bind(*[None] * leading, *args, **kwargs)


def positional(method: Callable[..., Any], leading: int) -> tuple[int, int] | None:
    """How many arguments `method` takes by their place after its `leading` ones, at least and at most; None where that does
    not say which calls are good."""
    code = getattr(method, "__code__", None)
    if code is None or code.co_flags & (CO_VARARGS | CO_VARKEYWORDS) or code.co_kwonlyargcount:
        return None
    most = code.co_argcount - leading
    return max(0, most - len(getattr(method, "__defaults__", None) or ())), most


def check_construction(cls: type, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """TypeError where actors are spawned, when `cls` cannot be built with these arguments."""
    build = getattr(cls, "__init__")  # noqa: B009
    if build is not object.__init__:
        check_arguments(build, 1, args, kwargs)
    elif (args or kwargs) and getattr(cls, "__new__") is object.__new__:  # noqa: B009
        raise TypeError(
            f"{cls.__qualname__} has no __init__ and takes no arguments; given were {len(args) + len(kwargs)}"
        )


def _again(mesh: ActorMesh[Any], name: str, explicit: bool, timeout: float | None) -> Endpoint[Any, Any]:
    """One that has travelled."""
    found = getattr(mesh, name)
    endpoint = found if isinstance(found, Endpoint) else as_endpoint(found, explicit_response_port=explicit)
    return endpoint if timeout is None else endpoint.options(timeout=timeout)


def endpoint_of(mesh: ActorMesh[Any], name: str, found: EndpointProperty[Any, Any]) -> Endpoint[Any, Any]:
    """What `mesh.name` gives."""
    return Endpoint(mesh, name, found.method, found.explicit)

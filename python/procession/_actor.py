"""Actor classes: what an endpoint is, and the checks that a class has to pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, Self, TypeVar, overload

from procession import _sources

if TYPE_CHECKING:
    import logging

    from procession._endpoint import Endpoint
    from procession._future import Future
    from procession._port import Port
    from procession._shape import Mesh
else:
    Mesh = object

P = ParamSpec("P")
R = TypeVar("R")

CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


class EndpointProperty(Generic[P, R]):
    """A method that can be called from other actors. On the actor itself it is the plain method."""

    __slots__ = ("concurrent", "explicit", "is_async", "method")

    def __init__(self, method: Callable[..., Any], explicit: bool, concurrent: bool) -> None:
        if not callable(method):
            raise TypeError(f"{method!r} is not a method: put @endpoint directly above `def`")
        self.method = method
        self.explicit = explicit
        """Whether the method answers through a port, its first argument, instead of by returning."""
        self.concurrent = concurrent
        """Whether other messages are handled while it awaits."""
        self.is_async = is_async(method)

    @property
    def __isabstractmethod__(self) -> bool:
        return getattr(self.method, "__isabstractmethod__", False)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.method.__doc__

    # To the type checker an endpoint is what a mesh gives, because spawn is typed to give the actor's own class.
    def __get__(self, instance: Any, owner: type | None = None) -> Endpoint[P, R]:
        return self if instance is None else MethodType(self.method, instance)  # type: ignore[return-value]


def is_async(function: Any) -> bool:
    """Whether calling `function` gives a coroutine."""
    if function is None:
        return False
    function = getattr(function, "__func__", function)
    if isinstance(function, FunctionType):
        return bool(function.__code__.co_flags & CO_COROUTINE)
    from inspect import iscoroutinefunction

    return iscoroutinefunction(function)


if TYPE_CHECKING:

    class _Ify(Protocol):
        @overload
        def __call__(self, method: Callable[Concatenate[Any, P], Awaitable[R]]) -> EndpointProperty[P, R]: ...
        @overload
        def __call__(self, method: Callable[Concatenate[Any, P], R]) -> EndpointProperty[P, R]: ...

    class _ExplicitIfy(Protocol):
        @overload
        def __call__(
            self, method: Callable[Concatenate[Any, Port[R], P], Awaitable[None]]
        ) -> EndpointProperty[P, R]: ...
        @overload
        def __call__(self, method: Callable[Concatenate[Any, Port[R], P], None]) -> EndpointProperty[P, R]: ...


@overload
def endpoint(method: Callable[Concatenate[Any, P], Awaitable[R]]) -> EndpointProperty[P, R]: ...
@overload
def endpoint(method: Callable[Concatenate[Any, P], R]) -> EndpointProperty[P, R]: ...
@overload
def endpoint(
    *, propagate: Any = None, explicit_response_port: Literal[False] = False, instrument: bool = True
) -> _Ify: ...
@overload
def endpoint(
    *, propagate: Any = None, explicit_response_port: Literal[True], instrument: bool = True
) -> _ExplicitIfy: ...
def endpoint(
    method: Any = None, *, propagate: Any = None, explicit_response_port: bool = False, instrument: bool = True
) -> Any:
    """Makes a method callable from other actors, as `@endpoint` or `@endpoint(explicit_response_port=True)`.

    With `explicit_response_port` the method gets a Port as its first argument and answers through it, once, now or
    later. `propagate` and `instrument` are accepted for source compatibility and have no meaning here.

    An exception goes to the caller, and the actor lives on. Where nobody can be told (a broadcast; an explicit port that
    was answered or passed on before) it ends the actor, which prints the traceback. SystemExit, and whatever else is no
    Exception, ends the actor in any case, after the caller was told.
    """
    if method is None:
        return lambda method: EndpointProperty(method, explicit_response_port, concurrent=False)
    return EndpointProperty(method, explicit_response_port, concurrent=False)


@overload
def concurrent_endpoint(method: Callable[Concatenate[Any, P], Awaitable[R]]) -> EndpointProperty[P, R]: ...
@overload
def concurrent_endpoint(
    *, propagate: Any = None, explicit_response_port: Literal[False] = False, instrument: bool = True
) -> _Ify: ...
@overload
def concurrent_endpoint(
    *, propagate: Any = None, explicit_response_port: Literal[True], instrument: bool = True
) -> _ExplicitIfy: ...
def concurrent_endpoint(
    method: Any = None, *, propagate: Any = None, explicit_response_port: bool = False, instrument: bool = True
) -> Any:
    """As `endpoint`, for an `async def` during whose awaits the actor handles other messages."""

    def wrap(method: Any) -> EndpointProperty[Any, Any]:
        if isinstance(method, EndpointProperty):
            name = getattr(method.method, "__qualname__", method.method)
            raise ValueError(
                f"{name} is an endpoint already: use @concurrent_endpoint alone, it takes the same options"
            )
        if not is_async(method):
            raise ValueError(
                f"{method.__qualname__} is not `async def`: only those can run concurrently; use @endpoint"
            )
        return EndpointProperty(method, explicit_response_port, concurrent=True)

    return wrap if method is None else wrap(method)


# What a mesh of actors has of its own; an endpoint of that name could never be called.
MESH_ATTRIBUTES = frozenset(
    {"slice", "split", "flatten", "rename", "size", "sizes", "extent", "stop", "initialized", "_region", "_with_region"}
)


class Actor(Mesh):
    """Isolated state with a mailbox: subclass it, mark methods with `@endpoint`, and spawn it on procs.

    Messages are handled one at a time, in the order in which each sender has sent them; between what different ones send there
    is no order, and only an answer says that a message was handled. Endpoints are all `def` or all `async def`. `__cleanup__(self, exc)` runs when the actor ends; `exc` is the exception that ended it, or None. It
    may be `async def` where the endpoints are. What the actor has spawned has ended by then.

    `__supervise__(self, failure)` is called with the `MeshFailure` of each actor of its own that fails, once and one at a
    time: of a sync actor between two messages, of an async one, where it may be `async def`, at an await. True means that it
    is handled; with anything else, or an exception, or without the method, this actor fails too, and its owner is told.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _sources.note_all(cls)
        for name, value in vars(cls).items():
            if isinstance(value, EndpointProperty) and name in MESH_ATTRIBUTES:
                raise ValueError(
                    f"endpoint {cls.__qualname__}.{name}: every mesh has an attribute of that name, so the endpoint could "
                    "never be called; rename it"
                )

    @property
    def logger(self) -> logging.Logger:
        """A logger named after the class, at the level DEBUG unless a level was set: handlers decide what is shown."""
        import logging

        logger = logging.getLogger(f"{type(self).__module__}.{type(self).__qualname__}")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.DEBUG)
        return logger

    if TYPE_CHECKING:

        @property
        def initialized(self) -> Future[Literal[True]]:
            """Of what spawn gives: done when every `__init__` has; raises what one raised."""

        def stop(self, reason: str = "stopped by client") -> Future[None]:
            """Of what spawn gives: stops the actors, and is done when they have ended."""

        def slice(self, **selectors: Any) -> Self: ...


def endpoints_of(cls: type[Actor]) -> dict[str, EndpointProperty[Any, Any]]:
    """The endpoints of a class, inherited ones included."""
    found: dict[str, EndpointProperty[Any, Any]] = {}
    for base in reversed(cls.__mro__):
        own = vars(base)
        for name in found.keys() & own.keys():
            del found[name]
        # Those without are not looked through: what a fork looks at it has copied.
        if base not in (object, Mesh, Actor):
            found.update((name, value) for name, value in own.items() if isinstance(value, EndpointProperty))
    return found


def check_class(cls: object) -> None:
    """Refuses what cannot be spawned."""
    if not (isinstance(cls, type) and issubclass(cls, Actor)):
        raise ValueError(f"{cls!r} must subclass procession.actor.Actor to be spawned")
    abstract = getattr(cls, "__abstractmethods__", ())
    if abstract:
        raise TypeError(
            f"{cls.__qualname__} does not define {', '.join(sorted(abstract))}: an abstract class cannot be spawned"
        )
    _check_hooks(cls)
    if getattr(cls, "_sync_in_threads", False):
        return
    endpoints = endpoints_of(cls)
    sync = [name for name, found in endpoints.items() if not found.is_async]
    asynchronous = [name for name, found in endpoints.items() if found.is_async]
    if sync and asynchronous:
        raise ValueError(
            f"{cls!r} mixes both async and sync endpoints: a sync one would stop the event loop of the async ones. Make all of "
            f"them `async def` (await asyncio.to_thread(...) for what blocks), or none. sync: {sync} async: {asynchronous}"
        )
    if sync:
        _refuse_async_hooks(cls, sync)


HOOKS = {"__cleanup__": "the exception that ended the actor, or None", "__supervise__": "a MeshFailure"}
"""What the runtime calls, each with one argument."""


def _check_hooks(cls: type[Actor]) -> None:
    for name, given in HOOKS.items():
        hook = getattr(cls, name, None)
        if hook is None:
            continue
        if not callable(hook):
            raise ValueError(f"{cls!r}.{name} = {hook!r}: has to be a method, which is called with {given}")
        if isinstance(hook, FunctionType):
            from procession._endpoint import check_arguments

            try:
                check_arguments(hook, 2, (), {})
            except TypeError as error:
                raise ValueError(f"{cls!r}.{name} has to take one argument, {given}: {error}") from None


def _refuse_async_hooks(cls: type[Actor], sync: list[str]) -> None:
    for hook in HOOKS:
        if is_async(getattr(cls, hook, None)):
            raise ValueError(
                f"{cls!r} has sync endpoints, but an async {hook}: an actor without async endpoints has no event loop. Make it "
                f"`def`, or all endpoints `async def`. sync: {sync}"
            )


def is_async_actor(cls: type[Actor]) -> bool:
    """Whether its endpoints need an event loop."""
    return getattr(cls, "_sync_in_threads", False) or any(found.is_async for found in endpoints_of(cls).values())

"""The actor's side: one message at a time, on a plain loop or on an asyncio loop of its own."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from procession import _answer, _context, _native, _pickle
from procession._actor import Actor, EndpointProperty, endpoints_of, is_async, is_async_actor
from procession._port import Port

if TYPE_CHECKING:
    import asyncio

    from procession._native import Inbox, Message, PortRef


class ActorFailed(Exception):
    """Nobody but the actor itself can be told of its `__cause__`, and it ends."""


class ActorServer:
    """Builds an actor and handles its messages until its inbox is closed, or until it fails."""

    def __init__(
        self,
        cls: type[Actor],
        build: Callable[[], Actor],
        instance: _context.Instance,
        inbox: Inbox,
        started: Callable[[BaseException | None], None],
    ) -> None:
        self._build = build
        self._instance = instance
        self._inbox = inbox
        self._started = started
        self._is_async = is_async_actor(cls)
        self._endpoints: dict[str, EndpointProperty[Any, Any]] = endpoints_of(cls)
        self._actor: Actor | None = None
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Returns when the actor has ended; raises nothing."""
        try:
            if self._is_async:
                import asyncio

                asyncio.run(self._run_async())
            else:
                self._run_sync()
        except BaseException as error:  # such as a loop that could not be made, or a second interrupt
            self._fail(error)
        failure = self._failure
        self._inbox.end(None if failure is None else f"actor {self._instance.actor_id} failed: {_answer.text_of(failure)}")

    def _construct(self) -> Actor | None:
        _context.enter(_context.Context(self._instance))
        try:
            self._actor = self._build()
        except BaseException as error:
            self._failure = error
            self._started(error)
            return None
        self._started(None)
        return self._actor

    def _fail(self, error: BaseException) -> None:
        error = error.__cause__ or error if isinstance(error, ActorFailed) else error
        if self._failure is None:
            self._failure = error
        print(f"actor {self._instance.actor_id} ends:\n{_answer.format_error(error)}", file=sys.stderr, end="", flush=True)

    # A sync actor

    def _run_sync(self) -> None:
        actor = self._construct()
        if actor is None:
            return
        try:
            while (message := self._inbox.next(None)) is not None:
                self._handle_sync(actor, message)
        except BaseException as error:
            self._fail(error)
        self._clean_up(actor)

    def _handle_sync(self, actor: Actor, message: Message) -> None:
        port = message.reply_port
        try:
            function, args, kwargs, explicit = self._open(actor, message)
            result = function(*args, **kwargs)
            if hasattr(result, "__await__") and is_async(getattr(function, "__func__", function)):
                result.close()
                raise TypeError(f"{message.method} is `async def`, and the endpoints of this actor are not: it has no event loop")
            if port is not None and not explicit:
                self._answer(port, result)
        except Exception as error:
            self._report(port, error)
        except BaseException as error:
            self._report_and_end(port, error)

    def _clean_up(self, actor: Actor) -> None:
        hook = getattr(actor, "__cleanup__", None)
        if hook is None:
            return
        try:
            result = hook(self._failure)
            if hasattr(result, "__await__"):
                import asyncio

                asyncio.run(_await(result))
        except Exception as error:
            self._fail(error)

    # An async actor

    async def _run_async(self) -> None:
        import asyncio

        actor = self._construct()
        if actor is None:
            return
        self._tasks: set[asyncio.Task[None]] = set()
        self._main = asyncio.current_task()
        try:
            await self._handle_all(actor)
        except asyncio.CancelledError:
            if self._failure is None:
                self._fail(ActorFailed("the event loop of the actor was stopped"))
        except BaseException as error:
            self._fail(error)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        hook = getattr(actor, "__cleanup__", None)
        if hook is not None:
            try:
                result = hook(self._failure)
                if hasattr(result, "__await__"):
                    await result
            except Exception as error:
                self._fail(error)

    async def _handle_all(self, actor: Actor) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        messages: deque[Message] = deque()
        arrived = asyncio.Event()
        reader = self._inbox.fileno()
        closed = False

        def readable() -> None:
            nonlocal closed
            closed = self._inbox.closed  # asked before draining, so that nothing is left behind
            messages.extend(self._inbox.drain())
            if closed:
                loop.remove_reader(reader)
            arrived.set()

        loop.add_reader(reader, readable)
        try:
            while True:
                while messages:
                    await self._dispatch(actor, messages.popleft())
                if closed:
                    return
                arrived.clear()
                await arrived.wait()
        finally:
            loop.remove_reader(reader)

    async def _dispatch(self, actor: Actor, message: Message) -> None:
        found = self._endpoints.get(message.method)
        if found is None or not found.concurrent:
            await self._handle_async(actor, message)
        else:
            self._start_task(self._handle_async(actor, message))

    def _start_task(self, handling: Any) -> None:
        import asyncio

        async def run() -> None:
            try:
                await handling
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self._fail(error)
                if self._main is not None:
                    self._main.cancel()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle_async(self, actor: Actor, message: Message) -> None:
        from asyncio import CancelledError, current_task

        port = message.reply_port
        try:
            function, args, kwargs, explicit = self._open(actor, message)
            result = function(*args, **kwargs)
            if hasattr(result, "__await__"):
                result = await result
            if port is not None and not explicit:
                self._answer(port, result)
        except CancelledError as error:
            task = current_task()
            if task is not None and task.cancelling():
                raise  # the actor ends; whoever waits for this is told by the end of the inbox
            self._report(port, error)
        except Exception as error:
            self._report(port, error)
        except BaseException as error:
            self._report_and_end(port, error)

    # Both

    def _open(self, actor: Actor, message: Message) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], bool]:
        with message.claims():
            args, kwargs, *region = _pickle.loads(message.payload)
        _context.enter(_context.Context(self._instance, region[0] if region else None))
        found = self._endpoints.get(message.method)
        if found is None and message.method.startswith("_"):
            raise AttributeError(f"{type(actor).__qualname__} has no endpoint {message.method!r}")
        explicit = message.style in (_native.EXPLICIT, _native.EXIT) if found is None else found.explicit
        if explicit:
            args = (Port(message.reply_port, self._rank()), *args)
        return getattr(actor, message.method), args, kwargs, explicit

    def _rank(self) -> int:
        return _context.current_rank().rank

    def _answer(self, port: PortRef, result: object) -> None:
        try:
            _answer.send_value(port, result, self._rank())
        except ConnectionError:
            pass  # the caller is gone, and does not need an answer

    def _report(self, port: PortRef | None, error: BaseException) -> None:
        """Tells the caller; raises ActorFailed when there is none."""
        try:
            if port is None:
                raise RuntimeError("nobody waits for an answer")
            self._send_error(port, error)
        except ConnectionError:
            pass
        except RuntimeError:  # also a port that was answered or passed on before
            raise ActorFailed from error

    def _send_error(self, port: PortRef, error: BaseException) -> None:
        if port.style == _native.EXIT:
            port.exception_exit(error)
        else:
            _answer.send_exception(port, error, self._rank())

    def _report_and_end(self, port: PortRef | None, error: BaseException) -> None:
        """For SystemExit and its like: the actor ends also when somebody was told."""
        self._report(port, error)
        raise ActorFailed from error


async def _await(awaitable: Any) -> Any:
    return await awaitable

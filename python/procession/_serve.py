"""The actor's side: one message at a time, on a plain loop or on an asyncio loop of its own."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from procession import _answer, _context, _owned, _pickle
from procession._actor import Actor, EndpointProperty, endpoints_of, is_async, is_async_actor
from procession._context import STOP, WAKE
from procession._failure import ending_of
from procession._port import Port
from procession.errors import ActorAborted, SupervisionError

if TYPE_CHECKING:
    import asyncio

    from procession._failure import Ending, MeshFailure
    from procession._interrupts import RunningCalls
    from procession._native import Inbox, Message, PortRef, Serving


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
        self._was_built = False
        self._failure: BaseException | None = None
        # What is still unanswered or unread is kept until the inbox ends, so that its senders learn how it did.
        self._unanswered: list[PortRef | None] = []
        self._messages: deque[Message] = deque()
        self._stop_reason: str | None = None
        self._main: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: RunningCalls
        # Failures of what it has spawned, for it to handle; the last one that it did not, which ends it.
        self._failures: deque[MeshFailure] = deque()
        self._supervising: asyncio.Task[None] | None = None
        self._unhandled: MeshFailure | None = None
        instance.supervise = self.supervise

    def supervise(self, failure: MeshFailure) -> None:
        """Has the actor handle `failure`, between messages or at an await. From any thread."""
        self._failures.append(failure)
        self._instance.wake()

    def run(self) -> Ending | None:
        """Returns when the actor has ended, None where that was regular; raises nothing."""
        try:
            if self._is_async:
                import asyncio

                asyncio.run(self._run_async())
            else:
                self._run_sync()
        except BaseException as error:  # such as a loop that could not be made, or a second interrupt
            self._fail(error)
        self._stop_owned()  # of one that was never built, or could not be cleaned up
        if self._stop_reason is not None and self._failure is None:
            self._inbox.close(self._stop_reason)
        self._end(self._failure, "failed")
        ending = None if self._failure is None else ending_of(self._failure, self._unhandled)
        # Loops, tasks and tracebacks of the user's may refer to this for longer, in cycles; the inbox holds a descriptor.
        self._instance._inbox = self._instance.supervise = None
        _owned.stop_all(self._instance)  # of what other threads have spawned since; whoever is later finds no inbox
        del self._actor, self._failure, self._inbox, self._main, self._messages, self._unanswered
        return ending

    def cannot_run(self, error: BaseException) -> Ending:
        """In place of `run`."""
        del self._build
        self._started(error)
        self._end(error, "could not be started")
        self._instance._inbox = self._instance.supervise = None
        return ending_of(error)

    def _end(self, error: BaseException | None, how: str) -> None:
        told = None if error is None else f"actor {self._instance.actor_id} {how}: {_answer.summary(error)}"
        self._inbox.end(told)

    def _construct(self) -> Actor | None:
        _context.enter(_context.Context(self._instance))
        build = self._build
        del self._build  # it holds the arguments
        try:
            with self._inbox.busy("__init__"):
                self._actor = build()
        except BaseException as error:
            self._failure = error
            self._started(error)
            return None
        self._was_built = True
        self._started(None)
        return self._actor

    def _fail(self, error: BaseException) -> None:
        error = error.__cause__ or error if isinstance(error, ActorFailed) else error
        if isinstance(error, ActorAborted):
            error = error.with_traceback(None)  # it was raised here, and not where it was asked for
        if self._failure is None:
            self._failure = error
        print(
            f"actor {self._instance.actor_id} ends:\n{_answer.format_error(error)}", file=sys.stderr, end="", flush=True
        )

    def _fail_beside(self, error: BaseException) -> None:
        """In another task than the main one, which handles no more then."""
        self._fail(error)
        if self._main is not None:
            self._main.cancel()

    def _stop_owned(self) -> None:
        if not self._instance.owned:
            return
        actors, procs = _owned.stop_all(self._instance)
        with suppress(TimeoutError):
            actors.get(_owned.GRACE)
        procs.get()

    # A sync actor

    def _run_sync(self) -> None:
        actor = self._construct()
        if actor is None:
            return
        serving = self._serving(actor)
        try:
            while self._stop_reason is None:
                found = serving.next()
                if found is None:
                    break
                message, error = found
                if error is None:
                    self._handle_sync(actor, message)
                else:
                    self._raised(message.method, message.reply_port, error)
                del found, message, error  # what came goes before the wait for the next, which may be long
            self._messages.extend(self._inbox.drain())
            while self._messages:
                message = self._messages.popleft()
                if not message.cancelled:
                    self._handle_sync(actor, message)
                del message
        except BaseException as error:
            self._fail(error)
        self._clean_up(actor)

    def _serving(self, actor: Actor) -> Serving:
        """Handles by itself what needs nothing of what is done here beside calling an endpoint."""
        short = {name: getattr(actor, name) for name, found in self._endpoints.items() if not found.explicit}

        def rank_of(region: tuple[Any, ...] | None) -> int:
            return _context.Context(self._instance, None, region).rank_number()

        ways = {
            "enter": _context.enter,
            "context": _context.Context,
            "instance": self._instance,
            "rank_of": rank_of,
            "answer": _answer.send_value,
        }
        return self._inbox.serve(actor, short, ways)

    def _handle_sync(self, actor: Actor, message: Message) -> None:
        try:
            if self._instance.aborted is not None:
                raise ActorAborted(self._instance.aborted)
            while self._failures:
                self._supervise(actor)
        except BaseException:
            self._messages.appendleft(message)  # unread: who sent it learns how the actor has ended
            raise
        method = message.method
        if method == WAKE:
            return
        if method == STOP:
            self._stop(message)
            return
        port = message.reply_port  # held here until it is answered: it closes when it is let go of
        try:
            function, args, kwargs, explicit = self._open(actor, message, port)
            result = function(*args, **kwargs)
            if not explicit:
                self._answer(port, result)
        except BaseException as error:
            self._raised(method, port, error)

    def _raised(self, method: str, port: PortRef | None, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._report(method, port, error)
        else:
            self._report_and_end(method, port, error)

    def _supervise(self, actor: Actor) -> None:
        failure = self._unhandled = self._failures.popleft()
        hook = self._enter_supervision(actor, failure)
        with self._inbox.busy("__supervise__"):
            handled = hook(failure)
        if not handled:
            raise ActorFailed from not_handled(failure)
        self._unhandled = None

    def _clean_up(self, actor: Actor) -> None:
        self._stop_owned()
        hook = getattr(actor, "__cleanup__", None)
        if hook is None:
            return
        try:
            with self._inbox.busy("__cleanup__"):
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
        from procession._interrupts import RunningCalls

        self._main = asyncio.current_task()
        self._calls = RunningCalls(self._main)
        try:
            await self._handle_all(actor)
        except asyncio.CancelledError:
            if self._failure is None:
                self._fail(ActorFailed("the event loop of the actor was stopped"))
            if self._main is not None:
                self._main.uncancel()
        except BaseException as error:
            self._fail(error)
        self._main = None  # what fails from here on does not keep the rest of the end from being done
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        actors, procs = _owned.stop_all(self._instance)
        with suppress(TimeoutError):
            await asyncio.wait_for(actors, _owned.GRACE)
        await procs
        hook = getattr(actor, "__cleanup__", None)
        if hook is not None:
            try:
                with self._inbox.busy("__cleanup__"):
                    result = hook(self._failure)
                    if hasattr(result, "__await__"):
                        await result
            except Exception as error:
                self._fail(error)

    async def _handle_all(self, actor: Actor) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        reader = self._inbox.fileno()
        closed = False

        def readable() -> None:
            nonlocal closed
            closed = self._inbox.closed  # asked before draining, so that nothing is left behind
            self._messages.extend(message for message in self._inbox.drain() if message.method != WAKE)
            if self._instance.aborted is not None:
                self._abort(self._instance.aborted)
            if self._failures and self._supervising is None:
                self._supervising = asyncio.create_task(self._supervise_all(actor))
                self._tasks.add(self._supervising)
            if self._inbox.some_cancelled():
                self._messages = deque(message for message in self._messages if not message.cancelled)
                self._calls.interrupt_cancelled()
            if closed:
                loop.remove_reader(reader)
            arrived.set()

        loop.add_reader(reader, readable)
        try:
            while True:
                while self._messages:
                    await self._dispatch(actor, self._messages.popleft())
                    if self._stop_reason is not None and not closed:
                        readable()
                        closed = True
                        loop.remove_reader(reader)
                if closed:
                    return
                arrived.clear()
                await arrived.wait()
        finally:
            loop.remove_reader(reader)

    def _abort(self, reason: str) -> None:
        """Once what it asks for in one go is done: its answer is given."""
        if self._failure is None:
            self._fail(ActorAborted(reason))
            if self._main is not None:
                self._main.cancel()

    async def _supervise_all(self, actor: Actor) -> None:
        from asyncio import CancelledError

        try:
            while self._failures:
                failure = self._unhandled = self._failures.popleft()
                hook = self._enter_supervision(actor, failure)
                with self._inbox.busy("__supervise__"):
                    handled = hook(failure)
                    if hasattr(handled, "__await__"):
                        handled = await handled
                if not handled:
                    raise ActorFailed from not_handled(failure)
                self._unhandled = None
        except CancelledError:
            raise
        except BaseException as error:
            self._fail_beside(error)
        finally:
            if self._supervising is not None:
                self._tasks.discard(self._supervising)
            self._supervising = None

    async def _dispatch(self, actor: Actor, message: Message) -> None:
        found = self._endpoints.get(message.method)
        if message.method == STOP:
            self._stop(message)
        elif found is None or not found.concurrent:
            self._calls.current = message
            await self._handle_async(actor, message)
            self._calls.current = None
        else:
            self._start_task(self._handle_async, actor, message)

    def _start_task(
        self, handle: Callable[[Actor, Message], Coroutine[Any, Any, None]], actor: Actor, message: Message
    ) -> None:
        import asyncio

        async def run() -> None:
            try:
                await handle(actor, message)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self._fail_beside(error)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        self._calls.began(task, message)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._calls.ended(task)
            if task.cancelled() and not message.cancelled:
                self._messages.append(message)  # it may not even have begun

        task.add_done_callback(ended)

    async def _handle_async(self, actor: Actor, message: Message) -> None:
        from asyncio import CancelledError

        if message.cancelled:
            return
        port = message.reply_port  # held here until it is answered: it closes when it is let go of
        try:
            function, args, kwargs, explicit = self._open(actor, message, port)
            result = function(*args, **kwargs)
            if hasattr(result, "__await__"):
                result = await result
            if not explicit:
                self._answer(port, result)
        except CancelledError as error:
            if self._calls.end_interrupt() and not _is_being_cancelled():
                return  # nobody waits for an answer
            if _is_being_cancelled():
                self._unanswered.append(port)
                raise  # the actor ends
            self._report(message.method, port, error)
        except Exception as error:
            self._report(message.method, port, error)
        except BaseException as error:
            self._report_and_end(message.method, port, error)
        finally:
            self._calls.end_interrupt()

    # Both

    def _enter_supervision(self, actor: Actor, failure: MeshFailure) -> Callable[[MeshFailure], Any]:
        """The actor's hook; one that has none handles nothing."""
        _context.enter(_context.Context(self._instance))
        return getattr(actor, "__supervise__", None) or _handles_nothing

    def _stop(self, message: Message) -> None:
        """What has come until now is still handled; what comes later is told of the end."""
        self._unanswered.append(message.reply_port)
        if self._stop_reason is None:
            self._stop_reason = _pickle.loads(message.payload)

    def _open(
        self, actor: Actor, message: Message, port: PortRef | None
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], bool]:
        """The bound method, its arguments, and whether it answers through a port."""
        _context.enter(_context.Context(self._instance, message.caller))
        args, kwargs, *region = message.load()
        if region:
            _context.enter(_context.Context(self._instance, message.caller, region[0]))
        name = message.method
        found = self._endpoints.get(name)
        if found is None and name.startswith("_"):
            raise AttributeError(f"{type(actor).__qualname__} has no endpoint {name!r}")
        function = getattr(actor, name)
        if found is None and is_async(function) and not self._is_async:
            raise TypeError(f"{name} is `async def`, and no endpoint of this actor is: it has no event loop")
        explicit = message.explicit if found is None else found.explicit
        if explicit:
            args = (Port(port, self._rank()), *args)
        return function, args, kwargs, explicit

    def _rank(self) -> int:
        return _context.context().rank_number()

    def _answer(self, port: PortRef | None, result: object) -> None:
        if port is not None:
            with suppress(ConnectionError):  # a caller that is gone needs no answer
                _answer.send_value(port, result, self._rank())

    def _report(self, method: str, port: PortRef | None, error: BaseException) -> None:
        """Tells the caller; raises ActorFailed when there is none."""
        if port is None:
            raise ActorFailed from error
        try:
            with suppress(ConnectionError):
                _answer.send_exception(port, error, self._rank())
        except RuntimeError:  # the port was answered, or passed on, before
            raise ActorFailed from error

    def _report_and_end(self, method: str, port: PortRef | None, error: BaseException) -> None:
        """For SystemExit and its like: the actor ends also when somebody was told."""
        error.add_note(f"{type(error).__qualname__} is no Exception: it has ended actor {self._instance.actor_id}")
        self._report(method, port, error)
        raise ActorFailed from error


def _is_being_cancelled() -> bool:
    from asyncio import current_task

    task = current_task()
    return task is not None and task.cancelling() > 0


def _handles_nothing(failure: MeshFailure) -> bool:
    return False


def not_handled(failure: MeshFailure) -> SupervisionError:
    """What an actor ends with that did not handle a failure of what it has spawned."""
    return SupervisionError(
        f"it did not handle a failure of the mesh {failure.mesh_name} that it has spawned: {failure}"
    )


async def _await(awaitable: Any) -> Any:
    return await awaitable

"""Serving a launcher: its three endpoints run concurrently, whatever they are declared as."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from procession import _native
from procession._actor import Actor, is_async
from procession._answer import format_error, summary
from procession._port import Port
from procession._serve import ActorServer
from procession.launch import LaunchOptions, LogWriter, ProcExitResult, ProcLauncher

if TYPE_CHECKING:
    from procession._native import Message, PortRef

CONTRACT = ("launch", "terminate", "kill")


class LauncherServer(ActorServer):
    """As for every async actor, and: a launch is acknowledged when it begins, and errors are sent as data."""

    async def _dispatch(self, actor: Actor, message: Message) -> None:
        if message.method in CONTRACT:
            # Tasks begin in the order in which they are made: no kill of a proc before its launch.
            self._start_task(self._handle_contract, actor, message)
        else:
            await super()._dispatch(actor, message)

    async def _handle_contract(self, actor: Actor, message: Message) -> None:
        acknowledge = message.ack_port
        if acknowledge is not None:
            with suppress(ConnectionError):
                acknowledge.send([], [], None)
        await self._handle_async(actor, message)

    def _open(
        self, actor: Actor, message: Message, port: PortRef | None
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], bool]:
        function, args, kwargs, explicit = super()._open(actor, message, port)
        if message.method == "launch" and isinstance(actor, ProcLauncher):
            function = getattr(actor, actor._serves_launch)
        if message.method == "launch" and port is not None and port.style == _native.EXIT:
            args = (ExitPort(port, args[1]), *args[1:])
        given = (*args, *kwargs.values())
        if message.method in CONTRACT and not is_async(function):
            function, args, kwargs = in_own_thread, (function, args, kwargs), {}
        if message.method == "launch":
            channel = next((one.log_channel for one in given if isinstance(one, LaunchOptions)), None)
            return launched, (function, args, kwargs, channel), {}, explicit
        return function, args, kwargs, explicit

    def _end(self, error: BaseException | None, how: str) -> None:
        if error is None or self._was_built:
            super()._end(error, how)
        else:  # whoever wanted to launch through it learns where it went wrong
            self._inbox.end_uncreated(f"{summary(error)}\n{format_error(error)}")

    def _report(self, method: str, port: PortRef | None, error: BaseException) -> None:
        """What a launcher's endpoint raises costs that launch, never the launcher."""
        if method not in CONTRACT or port is None:
            return super()._report(method, port, error)
        try:
            port.exception_exit(error)  # as text: the host loads no pickles
        except (ConnectionError, RuntimeError):
            print(
                f"{method} raised after it had answered:\n{format_error(error)}",
                file=sys.stderr,
                end="",
                flush=True,
            )


class ExitPort(Port[Any]):
    """The port for the exit of one launch. A second report is refused like any second answer, and the host counts it."""

    __slots__ = ("_proc_id",)

    def __init__(self, ref: PortRef, proc_id: str) -> None:
        super().__init__(ref)
        self._proc_id = proc_id

    def send(self, value: Any) -> None:
        with self._counted():
            super().send(value)

    def exception(self, error: BaseException) -> None:
        with self._counted():
            super().exception(error)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if str(error).startswith("AlreadyReported"):
                _native.reported_again(self._proc_id)
            raise


async def launched(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], log_channel: str | None
) -> None:
    """Calls a launcher's `launch`; what it raises is shown among the output of the proc that it has not launched."""
    try:
        result = await function(*args, **kwargs)
        if isinstance(result, ProcExitResult):
            raise TypeError("launch returned its result, which nobody gets: write exit_port.send(result)")
    except Exception as error:
        LogWriter(log_channel).stderr(format_error(error).encode(errors="replace"))
        raise


async def in_own_thread(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a blocking call. A thread for each, because a launch may last as long as its proc."""
    import asyncio
    from contextvars import copy_context

    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = context.run(function, *args, **kwargs)
        except StopIteration as error:  # no future takes one: it would end whoever awaits it
            failure = RuntimeError(f"{function.__qualname__} raised StopIteration")
            failure.__cause__ = error
        except BaseException as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=f"procession {function.__qualname__}", daemon=True).start()
    return await done

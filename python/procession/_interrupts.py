"""The calls that an async actor is busy with, and the interruption of those that nobody waits for any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from procession._native import Message


class RunningCalls:
    """By the task that runs each. Used on the actor's loop alone."""

    def __init__(self, main: asyncio.Task[Any] | None) -> None:
        self._main = main
        self.current: Message | None = None
        """What the main task is busy with."""
        self._beside: dict[asyncio.Task[Any], Message] = {}
        self._interrupted: set[asyncio.Task[Any]] = set()

    def began(self, task: asyncio.Task[Any], message: Message) -> None:
        """`task` is for `message`, beside the main one."""
        self._beside[task] = message

    def ended(self, task: asyncio.Task[Any]) -> None:
        del self._beside[task]
        self._interrupted.discard(task)

    def interrupt_cancelled(self) -> None:
        """Whatever runs for a call that was cancelled gets a CancelledError where it awaits, once."""
        running = dict(self._beside)
        if self._main is not None and self.current is not None:
            running[self._main] = self.current
        for task, message in running.items():
            if message.cancelled and task not in self._interrupted:
                self._interrupted.add(task)
                task.cancel("nobody waits for the answer any more")

    def end_interrupt(self) -> bool:
        """Whether the task that asks was interrupted so; from now on it is not, and can go on with something else."""
        if not self._interrupted:
            return False
        task = asyncio.current_task()
        if task is None or task not in self._interrupted:
            return False
        self._interrupted.discard(task)
        task.uncancel()
        return True

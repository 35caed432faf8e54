"""The part of `_native` that is about waiting; there is no module of this name when it runs."""

from typing import Any, final

@final
class Waiter:
    """Something that will be done once, and can be waited for from any thread or event loop."""

    def done(self) -> bool: ...
    def wait(self, timeout: float | None) -> bool:
        """False at `timeout`. Handles signals: a KeyboardInterrupt ends the wait."""
    def result(self) -> Any:
        """Raises what went wrong; call it only when done."""
    def notify(self, queue: CompletionQueue, token: int) -> int | None:
        """Puts `token` into `queue` once done: at once when it already is, otherwise gives what `forget` takes."""
    def forget(self, notification: int) -> None:
        """Takes a notification back, also one that has happened."""

@final
class CompletionQueue:
    """Carries completions into an asyncio loop: `loop.add_reader(queue.fileno(), …)`."""

    def __new__(cls) -> CompletionQueue: ...
    def fileno(self) -> int: ...
    def drain(self) -> list[int]: ...

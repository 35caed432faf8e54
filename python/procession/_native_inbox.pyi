"""The part of `_native` that is about what an actor gets; there is no module of this name when it runs."""

from collections.abc import Callable
from typing import Any, final

from procession._native import Claims, PortRef

@final
class Message:
    @property
    def method(self) -> str: ...
    @property
    def explicit(self) -> bool:
        """The caller takes it for an endpoint that gets a port."""
    @property
    def payload(self) -> list[memoryview]: ...
    @property
    def reply_port(self) -> PortRef | None:
        """It closes when the last reference to what this gave is dropped, so ask once and keep it until it is answered."""
    @property
    def cancelled(self) -> bool:
        """Nobody waits for its answer any more."""
    @property
    def caller(self) -> Caller | None:
        """Who waits for its answer; None where nobody does, or its port was passed on."""
    @property
    def ack_port(self) -> PortRef | None:
        """For a launch: answered when its endpoint starts to run."""
    def load(self) -> Any:
        """What it was called with. As `loads(payload)` inside of `claims()`."""
    def claims(self, holder: Inbox | None = None) -> Claims: ...

@final
class Caller:
    """Who waits for the answer to a message, as long as that has not been given."""

    @property
    def cancelled(self) -> bool:
        """It does not wait any more."""

@final
class Serving:
    """Handles the messages of an actor that are calls of an endpoint with plain arguments."""

    def next(self) -> tuple[Message, BaseException | None] | None:
        """The next message that it has not handled; or that has raised, with what. None once the inbox is closed and empty. Handles signals."""

@final
class Inbox:
    """The messages of one actor. What it never took is closed towards the senders when it ends."""

    @property
    def actor_id(self) -> str: ...
    def next(self, timeout: float | None) -> Message | None:
        """The next message; None at `timeout` or once closed and empty. Handles signals."""
    def serve(self, actor: object, endpoints: dict[str, Callable[..., Any]], ways: dict[str, Any]) -> Serving:
        """`endpoints` of `actor`, by name, each of which answers by returning. `ways`: "enter" (context), "context" (instance, caller, region), the
        "instance", "rank_of" (region), "answer" (port, value, rank)."""
    def attend(self) -> None:
        """There is something for the actor beside its messages: `Serving.next` gives the one that comes then."""
    def drain(self) -> list[Message]: ...
    def fileno(self) -> int:
        """Readable when `drain()` has something to give or the inbox is closed."""
    @property
    def closed(self) -> bool: ...
    def some_cancelled(self) -> bool:
        """Whether a call was cancelled since this was last asked, among those that were handed out or are queued."""
    def close(self, reason: str) -> None:
        """Takes no more; `next` gives what is queued and then None."""
    def busy(self, what: str) -> Busy:
        """`with inbox.busy("__init__"):` notes in the flight record what the actor does that is no message."""
    def end(self, failure: str | None) -> None:
        """The actor has ended (None: regularly). Every once port it still holds errs at its owner, saying `failure`."""
    def end_uncreated(self, why: str) -> None:
        """The actor never came to be."""

@final
class Busy:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...

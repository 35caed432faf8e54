"""A launcher that has another one keep processes warm, each of which a proc is launched in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from procession import _native, _validate
from procession._combinators import leaves_of
from procession._future import when_done
from procession._zygote import Zygote, known
from procession.errors import Unsupported

if TYPE_CHECKING:
    from procession._future import Future
    from procession._launcher import AnyLauncher
    from procession._procs import Slot


class Pool(Zygote):
    """Keeps `size` places warm that `launcher` makes, and launches each proc in one of them: without the start of a container, the boot
    of a machine or the wait in a queue.

    launcher: anything that `spawn_procs(launcher=...)` takes. It starts a process of procession for each place, which waits
        there, in its container, job step or unit, for one proc. Of the native launcher there is nothing to keep warm.
    size: how many wait at a time. As one is taken another is started; more procs at once than that wait for their places.

    Each proc has a place to itself, and runs as a child of the process there: its exit is its own, with the code and signal that its
    parent has read, and is told when its place has ended too, or after 10 s. When a place ends otherwise its proc is `lost`, with the
    reason. Programs of all kinds are executed there; directory, environment and arguments are those of the proc.

    What a place has is what it was started with: limits, users, rights and bindings (resources, user, rlimits, security, proc_bind) and
    detaching are refused, so give them to `launcher`, where it takes them. It needs procession where the procs run.

    The places are procs of this session, and end with `close()`, and with the process that has made this.
    """

    def __init__(self, launcher: Any, *, size: int = 4) -> None:
        super().__init__(launcher)
        self._size = _validate.count("size", size, least=1)

    def warm(self) -> Future[None]:
        """Starts the places now; done when all are up. Raises LauncherUnavailable when one cannot be. RuntimeError in a proc."""
        from procession._future import Future

        self.native()
        pool = known(self._name)
        if not isinstance(pool, _native.Pool):
            return Future._done_with(None)
        waiter = pool.warm()
        return when_done(waiter, waiter.result)

    def fit_for(self, slots: Sequence[Slot]) -> AnyLauncher:
        """This one: what it cannot do is refused."""
        return self

    def check(self, slots: Sequence[Slot]) -> None:
        """Refuses what would have to be known when a place is started."""
        super().check(slots)
        for slot in slots:
            for field, given in (("confinement", "a limit, a user, rights or a binding"), ("detach", "on_owner_loss")):
                if slot.options[field]:
                    rule = "its place was started without; give it to the launcher that the Pool goes around, or spawn through that"
                    raise Unsupported(f"{self!r}: {given}: {rule}")

    def __repr__(self) -> str:
        return f"launchers.Pool({self._through!r}, size={self._size!r})"

    def leaves(self) -> list[AnyLauncher]:
        """The launchers that make its places in the end."""
        return leaves_of(self._through)


def substrates_of(launcher: AnyLauncher) -> list[AnyLauncher]:
    """The launchers that make what procs run in: of one that keeps places warm those that make these."""
    return [inner for leaf in leaves_of(launcher) for inner in (leaf.leaves() if isinstance(leaf, Pool) else [leaf])]

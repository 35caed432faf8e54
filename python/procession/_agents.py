"""What launchers have in common that launch by agents at the other ends of commands."""

from __future__ import annotations

from procession._engines import EngineLauncher
from procession._future import Future, when_done


class AgentLauncher(EngineLauncher):
    """Its procs live no longer than its connections."""

    def close(self) -> Future[None]:
        """Closes all connections, at which all ends that was launched over them. The next use connects anew."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is None:
            return Future._done_with(None)
        waiter = engine.close()
        return when_done(waiter, waiter.result)

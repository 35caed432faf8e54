"""What a launched proc runs: `python -m procession._proc_main`."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import suppress

from procession import config


def main() -> int:
    payload = os.environ.get(config.BOOTSTRAP_ENV)
    # Secrets go before any code of the user's can see them, or pass them on to a child. The marker is none.
    for name in [name for name in os.environ if name.startswith(config.RESERVED_PREFIX)]:
        if name != config.LAUNCH_ID_ENV:
            del os.environ[name]
    if payload is None:
        print(
            f"procession._proc_main: {config.BOOTSTRAP_ENV} is not set: this is started by a launcher only",
            file=sys.stderr,
        )
        return 2
    _flush_every_line()

    from procession import _native

    try:
        node = _native.start_proc(payload)
        setup = node.setup()
    except ConnectionError as error:
        print(f"procession._proc_main: cannot reach the host: {error}", file=sys.stderr)
        return 1
    _mark(node.proc_id.rpartition("@")[0].rpartition(".")[2])
    _adopt(node.sys_path, node.cwd)
    try:
        _run_setup(setup)
    except BaseException:
        traceback.print_exc()
        print("procession._proc_main: the bootstrap callable of spawn_procs failed", file=sys.stderr)
        return 1

    from procession._agent import Agent, wait_for_all

    agent = Agent()
    node.ready()
    first = agent.first_actor()
    if first is not None:
        # The first actor gets the main thread, where signals and some libraries have to be handled.
        threading.Thread(target=agent.serve, name="procession agent", daemon=True).start()
        first.run()
    node.stopped(None)
    wait_for_all(None)
    node.proc_actors_ended()
    return 0


def _flush_every_line() -> None:
    """A pipe is block buffered by default, and a killed proc would take its last words along."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _mark(launch_id: str) -> None:
    """What this proc starts is found by its mark, however far it moves away."""
    marks = [mark for mark in os.environ.get(config.LAUNCH_ID_ENV, "").split(":") if mark]
    if launch_id not in marks:
        os.environ[config.LAUNCH_ID_ENV] = ":".join([launch_id, *marks])


def _adopt(path: list[str], cwd: str | None) -> None:
    """The client's import path, as far as it exists here, goes before this interpreter's own."""
    if cwd is not None and os.path.isdir(cwd):
        os.chdir(cwd)
    elsewhere = [entry for entry in sys.path[1:] if entry not in path]  # the first is where this was started
    sys.path[:] = [entry for entry in path if os.path.exists(entry)] + elsewhere


def _run_setup(setup: bytes) -> None:
    if not setup:
        return
    from procession._pickle import loads_whole

    result = loads_whole(setup)()
    if hasattr(result, "__await__"):
        import asyncio

        async def finish() -> None:
            await result

        asyncio.run(finish())


if __name__ == "__main__":
    sys.exit(main())

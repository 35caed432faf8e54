"""What a launched proc runs: `python -m procession._proc_main`; one that is to be a host too with `--host`, a zygote with `--zygote`."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from procession import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from procession._agent import Agent
    from procession._native import Runtime

STARTED = time.monotonic_ns()
"""What is imported above is in any interpreter, or as good as nothing."""
is_fork = False
# Where the phase of the boot lies in a flight record, as `flight_layout.rs` has it, and this phase's number there.
_PHASE_AT = 32
_IMPORTS = 4


def main() -> int:
    global STARTED, is_fork
    if config.FORK_SERVER_ARG in sys.argv:
        from procession._fork_server import serve

        ours = serve(_flush_every_line)
        STARTED, is_fork = time.monotonic_ns(), True
        del sys.argv[1:], sys.orig_argv[3:]
    else:
        _note_start(os.environ.get(config.FLIGHT_ENV))
        # Secrets go before any code of the user's can see them, or pass them on to a child. The marker is none.
        names = [
            name for name in os.environ if name.startswith(config.RESERVED_PREFIX) and name != config.LAUNCH_ID_ENV
        ]
        ours = {name: os.environ.pop(name) for name in names}
    payload = ours.get(config.BOOTSTRAP_ENV)
    if payload is None:
        print(
            f"procession._proc_main: {config.BOOTSTRAP_ENV} is not set: this is started by a launcher only",
            file=sys.stderr,
        )
        return 2
    if not is_fork:
        _flush_every_line()
    is_host = sys.argv[1:] == [config.HOST_ARG]

    from procession import _native

    try:
        node = _native.start_proc(payload, (time.monotonic_ns() - STARTED) / 1e9, is_host)
        setup = node.setup()
    except ConnectionError as error:
        print(f"procession._proc_main: cannot reach the host: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(f"procession._proc_main: {error}", file=sys.stderr)
        return 1
    _mark(node.proc_id.rpartition("@")[0].rpartition(".")[2])
    _adopt(node.sys_path, node.cwd)
    if setup and not _set_up(setup, node.say):
        return 1
    if sys.argv[1:] == [config.ZYGOTE_ARG]:
        _native.serve_launches(sys.executable)

    from procession._agent import Agent, wait_for_all

    agent = Agent()
    if is_host:
        return _serve_as_host(node, agent)
    node.ready()
    first = agent.first_actor()
    if first is not None:
        import threading

        # The first actor gets the main thread, where signals and some libraries have to be handled.
        threading.Thread(target=agent.serve, name="procession agent", daemon=True).start()
        first.run()
    node.stopped(None)
    wait_for_all(None)
    node.proc_actors_ended()
    return 0


def _serve_as_host(node: Runtime, agent: Agent) -> int:
    import threading

    from procession._agent import wait_for_all
    from procession._host_service import serve

    service = serve()
    threading.Thread(target=agent.serve, name="procession agent", daemon=True).start()
    node.ready()
    reason = f"its host ends: {(node.stopped(None) or '').removeprefix('stop: ')}"
    node.stop_procs(reason, config.HOST_STOP_SECONDS)
    service.finish()
    node.stop_actors(reason)
    wait_for_all(config.STOP_GRACE)
    node.shutdown(config.HOST_STOP_SECONDS)
    return 0


def _note_start(record: str | None) -> None:
    """Into the flight record, before the runtime that keeps it is loaded: what goes on now are imports."""
    if record is None:
        return
    with suppress(OSError):  # of another mount namespace: the host says that there is none
        fd = os.open(record, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            words = (_IMPORTS, time.time_ns())
            os.pwrite(fd, b"".join(word.to_bytes(8, sys.byteorder) for word in words), _PHASE_AT)
        finally:
            os.close(fd)


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
    if cwd is not None:
        with suppress(OSError):
            os.chdir(cwd)
    own = sys.path[1:]  # the first is where this was started
    known = set(own)
    sys.path[:] = [entry for entry in path if entry in known or os.path.exists(entry)]
    sys.path += [entry for entry in own if entry not in path]


def _set_up(setup: bytes, say: Callable[[str], None]) -> bool:
    """Whether all of it went well; what did not is on stderr."""
    from procession._setup import steps_of

    what = "the set-up"
    try:
        for step in steps_of(setup):
            what = step.what
            say(step.says)
            step.run()
    except BaseException:
        import traceback

        traceback.print_exc()
        print(f"procession._proc_main: {what} failed", file=sys.stderr)
        return False
    return True


def _leave(code: int) -> NoReturn:
    """Ends a fork as an interpreter ends, but for taking apart what it shares with others, which would copy all of it."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except (AttributeError, ValueError, OSError):
        code = 120  # as the interpreter's own end has it
    with suppress(AttributeError, ValueError, OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    ended = main()
    if is_fork:
        _leave(ended)
    sys.exit(ended)

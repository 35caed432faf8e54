"""For tests of code that uses this package: launchers whose procs do what a script says, without any process, and a clock that
does not go by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from procession._actor import concurrent_endpoint, endpoint
from procession._fake import (
    Boots,
    Exits,
    FailsToLaunch,
    FakeLauncher,
    Oom,
    Prints,
    Progresses,
    Script,
    Signaled,
    Step,
    Unreachable,
    VirtualTime,
    WhenTerminated,
    virtual_time,
)
from procession._port import Port
from procession.launch import Capabilities, LaunchOptions, ProcExitResult, ProcLauncher

__all__ = [
    "Boots",
    "Exits",
    "FailsToLaunch",
    "FakeLauncher",
    "Oom",
    "Prints",
    "Progresses",
    "Script",
    "ScriptedLauncher",
    "Signaled",
    "Step",
    "Unreachable",
    "VirtualTime",
    "WhenTerminated",
    "virtual_time",
]


class ScriptedLauncher(ProcLauncher):
    """Plays the exits in its params; pass it to a spawn with `readiness="none"`.

    `params["exits"]` maps the name of a slot (`workers-0`) to what happens to its launches: a ProcExitResult is
    reported at once, an exception is raised by `launch`, and anything that is not named lives until it is terminated
    or killed, and then ends by that signal. A list holds one entry for each incarnation.
    """

    capabilities = Capabilities(command_attributes=True)

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        super().__init__(params)
        self._exits: Mapping[str, Any] = self.params.get("exits", {})
        self._launches: dict[str, int] = {}
        self._alive: dict[str, Port[ProcExitResult]] = {}
        self._calls: list[tuple[str, str]] = []

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        name = self._note("launch", proc_id)
        incarnation = self._launches[name] = self._launches.get(name, 0) + 1
        planned = self._exits.get(name)
        if isinstance(planned, list):
            planned = planned[incarnation - 1] if incarnation <= len(planned) else None
        if planned is None:
            self._alive[proc_id] = exit_port
        elif isinstance(planned, BaseException):
            raise planned
        else:
            exit_port.send(planned)

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        self._note("terminate", proc_id)
        self._end(proc_id, 15)

    @endpoint
    async def kill(self, proc_id: str) -> None:
        self._note("kill", proc_id)
        self._end(proc_id, 9)

    @concurrent_endpoint
    async def calls(self) -> list[tuple[str, str]]:
        """What was asked so far: pairs of `launch`, `terminate` or `kill` and the name of the slot."""
        return list(self._calls)

    @concurrent_endpoint
    async def end(self, name: str, result: ProcExitResult) -> None:
        """Ends the live proc of that slot; KeyError when there is none."""
        proc_id = next((one for one in self._alive if _slot(one) == name), None)
        if proc_id is None:
            raise KeyError(f"no live proc called {name}")
        self._alive.pop(proc_id).send(result)

    def _note(self, call: str, proc_id: str) -> str:
        self._calls.append((call, _slot(proc_id)))
        return _slot(proc_id)

    def _end(self, proc_id: str, signal: int) -> None:
        port = self._alive.pop(proc_id, None)
        if port is not None:
            port.send(ProcExitResult(None, signal, False, None, []))


def _slot(proc_id: str) -> str:
    """The name in `<name>.<launch id>@<host>`."""
    return proc_id.rpartition("@")[0].rpartition(".")[0]

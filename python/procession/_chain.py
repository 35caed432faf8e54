"""A launcher on another machine: one leads there, the next one launches."""

from __future__ import annotations

import json
from typing import Any

from procession import _validate
from procession._agents import AgentLauncher
from procession._command import Command
from procession._engines import EngineLauncher
from procession._ssh import Ssh
from procession.errors import InvalidArgument


class Chain(AgentLauncher):
    """Launches through a launcher that is on another machine: `Chain(Ssh("node7"), Docker("trainer:7"))`.

    launchers: two or more. All but the last lead somewhere, and are `Ssh` or `Command`; the last one launches there, and is any
        launcher for a substrate: `Docker`, `Podman`, `Systemd`, `Slurm`, `Kubernetes`, `Vm`. Where it finds its engine is where it is: `host=` of Docker
        is an address of that machine.

    What leads there starts one agent for all procs (`procession agent --stdio`, of a build with that launcher), which has the last
    launcher, and leads its procs to their host: all goes through the stdin and stdout of that one command. What can be asked for,
    and what exits say, is what the last launcher can do and says. When the command or its agent ends, all that was launched there is
    ended, and is lost here; what the agent could not end any more is found by `list()`.

    LauncherUnavailable, with the place, where nothing answers, or the last launcher cannot be used there. An `Ssh` behind the first
    launcher copies nothing: procession has to be on the machine that it leads to.
    """

    def __init__(self, *launchers: Any) -> None:
        if len(launchers) < 2:
            _validate.refuse("launchers", launchers, "give two at least: what leads there, and what launches there")
        for launcher in launchers:
            if not isinstance(launcher, EngineLauncher):
                rule = "has to be a launcher for a substrate, such as Ssh(...) and Docker(...); what goes around launchers goes around the chain"
                _validate.refuse("launchers", launcher, rule)
        for launcher in launchers[:-1]:
            if not isinstance(launcher, Ssh | Command):
                rule = "leads to no other machine: only the last one may be of its kind, before it give Ssh(...) or Command(...)"
                raise InvalidArgument("launchers", repr(launcher), rule)
        self.launchers = launchers
        first, *rest = launchers
        inner = rest[0] if len(rest) == 1 else Chain(*rest)
        self._first = first
        self._kind = first._kind
        super().__init__({**first._config, "launcher": {"kind": inner._kind, "config": json.dumps(inner._far())}})

    @property
    def config(self) -> dict[str, Any]:
        """That of the last launcher, which is the one that launches."""
        config: dict[str, Any] = self.launchers[-1].config
        return config

    def _far(self) -> dict[str, Any]:
        return {**self._first._far(), "launcher": self._config["launcher"]}

    def __reduce__(self) -> tuple[Any, ...]:
        return Chain, self.launchers

    def __repr__(self) -> str:
        return f"launchers.Chain({', '.join(map(repr, self.launchers))})"

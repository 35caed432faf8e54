"""The launcher for other machines, through the user's own `ssh`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from procession import _validate
from procession._agents import AgentLauncher


class Ssh(AgentLauncher):
    """Launches procs on another machine, by an agent there that the user's own `ssh` starts.

    host: the destination as `ssh` takes it: `"node7"`, `"user@node7"`; also a name of `~/.ssh/config`.
    ssh: the program.
    options: what it is given before the destination: `["-F", "other.conf"]`, `["-J", "gateway"]`.
    python: the program there that runs the agent, and Python procs: of this interpreter's minor version.
    copy: whether the agent, procession and cloudpickle are copied there where procession is missing or of another version:
        into `~/.cache/procession/`, once for each version.
    agent: the command of an agent that needs no Python, `["procession-agent", "--stdio"]`; then nothing is copied.
    timeout: seconds for the agent to answer.
    lease: seconds that it may not answer before all that it has launched counts as lost. When it has heard nothing itself for
        30 s it ends all that.

    Everything goes through one connection of `ssh`, also what procs and their host say to each other: nothing has to be
    reachable but sshd. Passwords cannot be typed (BatchMode); use keys or an agent of `ssh`. When the connection ends, all that
    was launched over it ends there, and is lost here; the next launch connects anew.
    """

    _kind = "ssh"

    def __init__(
        self,
        host: str,
        *,
        ssh: str = "ssh",
        options: Sequence[str] = (),
        python: str = "python3",
        copy: bool = True,
        agent: Sequence[str] | None = None,
        timeout: float = 60.0,
        lease: float = 30.0,
    ) -> None:
        super().__init__(
            {
                "host": _validate.text("host", host),
                "ssh": _validate.text("ssh", ssh),
                "options": _validate.args("options", options),
                "python": _validate.text("python", python),
                "copy": _validate.flag("copy", copy),
                "agent": None if agent is None else _validate.args("agent", agent),
                "timeout": _validate.seconds("timeout", timeout),
                "lease": _validate.seconds("lease", lease),
            }
        )

    def _far(self) -> dict[str, Any]:
        return {name: value for name, value in self._config.items() if name != "copy"}

    @staticmethod
    def _prepared(config: dict[str, Any]) -> dict[str, Any]:
        from procession._bundle import bundle

        config = dict(config)
        if config.pop("copy") and not config.get("agent"):
            config["bundle"] = str(bundle())
        return config

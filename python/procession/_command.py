"""The launcher for any command line that leads to where an agent can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from procession import _validate
from procession._agents import AgentLauncher


class Command(AgentLauncher):
    """Launches each proc by a command line of its own, at whose other end an agent runs: `Command("docker run -i --rm image {argv}")`.

    command: the command line, with `{argv}` where that of the agent goes. It is taken apart into words as a shell does, and no
        shell runs it; within quotes, `sh -c 'cd /srv && {argv}'`, the command of the agent is quoted for one. It has to pass
        stdin and stdout on.
    agent: the command of the agent where it will run. That needs procession and a Python of this interpreter's minor version;
        `["procession-agent", "--stdio"]` needs no Python.
    shared: whether one command serves all procs, and not one each.
    env: what is added to the environment of the command itself. Procs have the environment that it gives to the agent.
    timeout: seconds for a command's agent to answer.
    lease: seconds that an agent may not answer before what it has launched counts as lost.
    launches_at_once: how many commands are on their way at the same time.

    What procs and their host say to each other goes through stdin and stdout of the command, so that it needs no network. When
    a command ends, what was launched by it ends there, and is lost here.
    """

    _kind = "command"

    def __init__(
        self,
        command: str,
        *,
        agent: Sequence[str] = ("python3", "-m", "procession", "agent", "--stdio"),
        shared: bool = False,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        lease: float = 30.0,
        launches_at_once: int = 16,
    ) -> None:
        super().__init__(
            {
                "command": _validate.text("command", command),
                "agent": _validate.args("agent", agent),
                "shared": _validate.flag("shared", shared),
                "env": dict(env or {}),
                "timeout": _validate.seconds("timeout", timeout),
                "lease": _validate.seconds("lease", lease),
                "launches_at_once": _validate.count("launches_at_once", launches_at_once, least=1),
            }
        )

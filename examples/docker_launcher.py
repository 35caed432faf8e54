"""A launcher for Docker, over its command line: each proc is a container on the default bridge network.

DOCKER_IMAGE names the image. It needs Python, procession and cloudpickle (engines/mkimg.py makes one), and the modules
that the actors come from; what the main script defines travels with the call.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from subprocess import PIPE
from typing import Any

from procession.launch import (
    Capabilities,
    DialBack,
    LaunchContext,
    Launcher,
    LaunchOptions,
    LogWriter,
    ProcExitResult,
    Unreachable,
)


async def docker(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    # Not in a thread: those are few, and some commands last as long as their container.
    process = await asyncio.create_subprocess_exec("docker", *arguments, stdout=PIPE, stderr=PIPE, env=env)
    out, err = await process.communicate()
    if any(words in err for words in (b"Cannot connect to the Docker daemon", b"error during connect")):
        raise Unreachable(err.decode().strip())
    if process.returncode != 0:
        raise RuntimeError(f"docker {arguments[0]}: {err.decode().strip()}")
    return out.decode().strip()


def bridge_address() -> str:
    """The host's address as containers see it."""
    asked = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    return subprocess.run(asked, check=True, stdout=PIPE, text=True).stdout.strip()


class DockerLauncher(Launcher):
    capabilities = Capabilities(folds_signals=True)
    dial_back = DialBack.network(bind=f"{bridge_address()}:0")

    async def launch(self, spec: LaunchOptions, ctx: LaunchContext) -> str:
        variables = spec.environment({})
        # Only the names stand in the argument list; the docker client takes the values from its own environment.
        names = [word for key in variables for word in ("--env", key)]
        image = self.params.get("image") or os.environ["DOCKER_IMAGE"]
        label = f"procession.proc={ctx.proc_id}"
        create = ["create", "--name", ctx.name, "--init", "--pull", "never", "--label", label]
        create += [*self.params.get("flags", []), *names, image, "python3", *spec.args]
        await docker(*create, env=os.environ | variables)
        await docker("start", ctx.name)
        return ctx.name

    async def wait(self, handle: str) -> ProcExitResult:
        await docker("wait", handle)
        return exit_of(json.loads(await docker("inspect", "--format", "{{json .State}}", handle)), [])

    async def signal(self, handle: str, signal: int) -> None:
        try:
            await docker("kill", "--signal", str(signal), handle)
        except RuntimeError as error:
            if "is not running" not in str(error) and "No such container" not in str(error):
                raise

    async def destroy(self, handle: str) -> None:
        await docker("rm", "--force", "--volumes", handle)

    async def list(self) -> dict[str, str]:
        shown = await docker("ps", "--all", "--filter", "label=procession.proc", "--format", FORMAT)
        return dict(line.split("\t") for line in shown.splitlines())

    async def logs(self, handle: str, out: LogWriter) -> None:
        await out.run(["docker", "logs", "--follow", handle])

    async def probe(self) -> str:
        return await docker("version", "--format", "Docker {{.Server.Version}}")


FORMAT = '{{.Label "procession.proc"}}\t{{.Names}}'


def exit_of(state: dict[str, Any], stderr_tail: list[str]) -> ProcExitResult:
    """Docker gives 128 + n for signal n, as shells do."""
    code = state["ExitCode"]
    signal = code - 128 if 128 < code <= 128 + 64 else None
    if state["OOMKilled"]:
        stderr_tail = [*stderr_tail, "out of memory: the container reached its limit"]
    return ProcExitResult(None if signal else code, signal, False, state["Error"] or None, stderr_tail)

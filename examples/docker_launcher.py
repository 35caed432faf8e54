"""A launcher for Docker, over its command line: each proc is a container on the default bridge network.

DOCKER_IMAGE names the image. It needs Python, procession and cloudpickle (engines/mkimg.py makes one), and the modules
that the actors come from; what the main script defines travels with the call.
"""

import asyncio
import json
import os
import subprocess
from typing import Any

from procession.actor import Port, endpoint
from procession.launch import Capabilities, DialBack, LaunchOptions, ProcExitResult, ProcLauncher, safe_name, supervise


def docker(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, env=env)
    if done.returncode != 0:
        raise RuntimeError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def bridge_address() -> str:
    """The host's address as containers see it."""
    return docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")


class DockerLauncher(ProcLauncher):
    capabilities = Capabilities()
    dial_back = DialBack.network(bind=f"{bridge_address()}:0")

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        super().__init__(params)
        self.started: dict[str, asyncio.Event] = {}

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        name, started = safe_name(proc_id), self.started.setdefault(proc_id, asyncio.Event())
        variables = opts.environment({})
        # Only the names stand in the argument list; the docker client takes the values from its own environment.
        names = [word for key in variables for word in ("--env", key)]
        image = self.params.get("image") or os.environ["DOCKER_IMAGE"]
        try:
            create = ["create", "--name", name, "--init", "--pull", "never", "--label", f"procession.proc={proc_id}"]
            create += [*self.params.get("flags", []), *names, image, "python3", *opts.args]
            await asyncio.to_thread(docker, *create, env=os.environ | variables)
            await asyncio.to_thread(docker, "start", name)
            self.report(proc_id, handle=name)
            started.set()
            logs = await supervise(opts, argv=["docker", "logs", "--follow", name], env=dict(os.environ))
            # Not in a thread: those are few, and this one would be taken for as long as the container lives.
            await (await supervise(argv=["docker", "wait", name])).wait()
            tail = (await logs.wait()).stderr_tail
            state = json.loads(await asyncio.to_thread(docker, "inspect", "--format", "{{json .State}}", name))
        finally:
            started.set()
            del self.started[proc_id]
            await asyncio.to_thread(subprocess.run, ["docker", "rm", "--force", name], capture_output=True)
        exit_port.send(exit_of(state, tail))

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        await self.signal(proc_id, "TERM")

    @endpoint
    async def kill(self, proc_id: str) -> None:
        await self.signal(proc_id, "KILL")

    async def signal(self, proc_id: str, signal: str) -> None:
        if started := self.started.get(proc_id):
            await started.wait()
            try:
                await asyncio.to_thread(docker, "kill", "--signal", signal, safe_name(proc_id))
            except RuntimeError as error:
                if "is not running" not in str(error) and "No such container" not in str(error):
                    raise


def exit_of(state: dict[str, Any], stderr_tail: list[str]) -> ProcExitResult:
    """Docker gives 128 + n for signal n, as shells do."""
    code = state["ExitCode"]
    signal = code - 128 if 128 < code <= 128 + 64 else None
    if state["OOMKilled"]:
        stderr_tail = [*stderr_tail, "out of memory: the container reached its limit"]
    return ProcExitResult(None if signal else code, signal, False, state["Error"] or None, stderr_tail)

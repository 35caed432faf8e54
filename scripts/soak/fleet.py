"""What runs in the procs, and the launcher of two of the three meshes."""

import os
import subprocess
import sys
import time
from pathlib import Path

from procession.actor import Actor, Port, endpoint
from procession.launch import LaunchOptions, ProcExitResult, ProcLauncher, Supervised, supervise


class Supervising(ProcLauncher):
    def __init__(self, params: dict | None = None) -> None:
        super().__init__(params)
        self.procs: dict[str, Supervised] = {}

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        proc = self.procs[proc_id] = await supervise(opts)
        self.report(proc_id, pid=proc.pid)
        exit_port.send(await proc.wait())
        del self.procs[proc_id]

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        if proc := self.procs.get(proc_id):
            await proc.terminate(timeout_secs)

    @endpoint
    async def kill(self, proc_id: str) -> None:
        if proc := self.procs.get(proc_id):
            await proc.kill()


class BootCrash:
    """Runs before any actor; ends the proc whose name has a file in the folder, with the code that is in it."""

    NAME = "SOAK_NAME"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def order(self, name: str, code: int) -> None:
        (self.folder / name).write_text(str(code))

    def withdraw(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def __call__(self) -> None:
        order = self.folder / os.environ[self.NAME]
        if order.exists():
            code = int(order.read_text())
            order.unlink()
            os._exit(code)


def write_lines(count: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.writelines(f"{line:08} {'x' * 90}\n" for line in range(count))
        stream.flush()


class Worker(Actor):
    @endpoint
    def where(self) -> tuple[int, int]:
        return os.getpid(), os.getppid()

    @endpoint
    def echo(self, value: int) -> int:
        return value

    @endpoint
    def exit(self, code: int) -> None:
        os._exit(code)

    @endpoint
    def flood(self, lines: int) -> None:
        write_lines(lines)

    @endpoint
    def die_with_words(self, lines: int, words: str, code: int) -> None:
        write_lines(lines)
        print(words, file=sys.stderr, flush=True)
        os._exit(code)

    @endpoint
    def grandchildren(self) -> list[int]:
        """A child, and a daemon in a session of its own."""
        child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        daemon = "setsid sleep 1000 > /dev/null 2>&1 < /dev/null & echo $!"
        told = subprocess.run(["/bin/sh", "-c", daemon], stdout=subprocess.PIPE, check=True, text=True).stdout
        while not Path(f"/proc/{int(told)}/cmdline").read_bytes().startswith(b"sleep"):
            time.sleep(0.001)
        return [child.pid, int(told)]

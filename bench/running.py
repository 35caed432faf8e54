"""Runs the programs of bench/programs, of which nothing is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120.0


class ProgramFailed(Exception):
    """A program did not end with 0 and a JSON value."""


def run(command: list[str], timeout: float = SECONDS, cwd: Path = ROOT, env: dict[str, str] | None = None) -> Any:
    """The JSON value in the last line that `command` prints. What it started ends with it, however it ends."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=env,
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ProgramFailed(f"{' '.join(command)} took longer than {timeout:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    if process.returncode != 0 or not out.strip():
        said = (errors.strip().splitlines() or ["without a word"])[-1]
        raise ProgramFailed(f"{' '.join(command)} ended with {process.returncode}: {said}")
    return json.loads(out.strip().splitlines()[-1])


def program(name: str, *arguments: object, timeout: float = SECONDS) -> Any:
    """What `bench.programs.<name>` prints, run by the interpreter of this process."""
    return run([sys.executable, "-m", f"bench.programs.{name}", *map(str, arguments)], timeout)


def keep_bytecode() -> dict[str, str]:
    """Has all that is measured compiled beforehand, as what is installed is. Some machines forbid it to keep that.

    Gives the environment of this process, which has changed.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([sys.executable, "-c", "import bench.themes, bench.programs.flat"], check=True, cwd=ROOT)
    return dict(os.environ)

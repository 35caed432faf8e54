"""What the end-to-end tests of several folders share: procs that are stopped again, and scripts run in a process of
their own. The conftest.py of a folder that needs them imports them."""

import os
import queue
import subprocess
import sys
import textwrap

import pytest

import procession.actor
from procession.actor import this_host, this_proc


@pytest.fixture
def failures(monkeypatch):
    """What nobody else handles of what fails in this process."""
    told = queue.SimpleQueue()
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", told.put)
    return told


@pytest.fixture(scope="module")
def four():
    """Four procs for the tests of a module that leave them as they are."""
    with this_host().spawn_procs(per_host={"gpus": 4}) as procs:
        procs.initialized.get(30)
        yield procs


@pytest.fixture
def spawned():
    """Spawns actors, in this process unless told otherwise, and stops them again."""
    meshes = []

    def spawn(cls, *args, procs=None, **kwargs):
        mesh = (procs or this_proc()).spawn(cls.__name__.lower(), cls, *args, **kwargs)
        meshes.append(mesh)
        return mesh

    yield spawn
    for mesh in meshes:
        mesh.stop().get(10)


@pytest.fixture
def script(tmp_path):
    """Runs Python source as a program of its own."""

    def run(source, *args, check=True, timeout=50, env=None, **kwargs):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(source))
        command = [sys.executable, str(path), *args]
        environment = {**os.environ, **(env or {})}
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, **kwargs)
        if check and done.returncode != 0:
            pytest.fail(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run

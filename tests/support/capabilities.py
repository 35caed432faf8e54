"""What this machine can do: tests of what it cannot are skipped, and say which capability it lacks."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import pytest

import procession
from launching import until
from procession._native import machine_facts

HOLDS = {name for name, holds, _ in machine_facts() if holds}


def need(*names):
    for name in names:
        if name not in HOLDS:
            pytest.skip(f"capability: {name}")


def group_of(pid, controller=""):
    """The directory of a process's control group: of version 2, or in the hierarchy of version 1 with that controller."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    paths = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        root, point = place.split(" ")[3:5]
        fits = kind == "cgroup" and controller in options.split(",") if controller else kind == "cgroup2"
        if fits and controller in paths and Path(paths[controller]).is_relative_to(root):
            return Path(point) / Path(paths[controller]).relative_to(root)
    pytest.skip("capability: own-group")


@contextmanager
def group_below_own(controller, name):
    """A control group below that of this process, for processes to move into; removed when they have left it."""
    group = group_of("self", controller) / f"{name}-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("capability: own-group")
    try:
        yield group
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), f"{group} is empty")
        group.rmdir()


def empty_groups_of_this_process():
    """The control groups that procs of this process have left."""
    places = {group_of("self", name) for name in ("", *_v1())}
    found = [path for place in places for path in place.glob(f"procession-*.{os.getpid()}.*")]
    return [path for path in found if not _processes_in(path)]


def _processes_in(group):
    try:
        return (group / "cgroup.procs").read_text()
    except OSError:
        return "it is gone"


def _v1():
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    mounted = {name for line in lines for name in line.split(":")[1].split(",")}
    return mounted & {"memory", "pids", "cpu", "freezer"}


def python_of_others(folder):
    """An interpreter that another user can run, and what it needs in its environment to import what is tested."""
    for package in (procession, cloudpickle):
        here = Path(package.__file__).parent
        shutil.copytree(here, folder / here.name, ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PYTHONPATH": str(folder)}
    probe = "import os, sys, procession._native, cloudpickle; os.stat(sys.executable)"
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for python in (sys.executable, "/usr/bin/python3"):
        command = [*as_nobody, python, "-c", probe]
        if shutil.which("setpriv") and subprocess.run(command, env=env, cwd="/", capture_output=True).returncode == 0:
            return python, env
    pytest.skip("capability: shared-python")

"""`procession conformance`: the checks of the kit, on launchers that Python names."""

import json
import os
import subprocess
import sys

import pytest

from procession._conformance import check_names, conform
from procession.errors import InvalidArgument

LAUNCHERS = """
from procession.launch import Launcher, ProcExitResult, supervise

class Sound(Launcher):
    feeds_output = True

    async def launch(self, spec, ctx):
        return await supervise(spec)

    async def wait(self, handle):
        return await handle.wait()

    async def signal(self, handle, signal):
        await (handle.kill() if signal == 9 else handle.terminate(60))

class AlwaysZero(Sound):
    async def wait(self, handle):
        end = await handle.wait()
        return ProcExitResult(0, None, False, None, end.stderr_tail)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "some_launchers.py").write_text(LAUNCHERS)
    return tmp_path


def procession(*args, folder):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "procession", "conformance", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=55, env=environ)


def test_there_are_checks_of_every_group():
    groups = {name.partition(".")[0] for name in check_names()}
    assert groups == {"exec", "ready", "exit", "output", "stop", "tree", "identity", "limits", "adopt", "chaos"}
    assert len(check_names()) > 80


def test_the_native_launcher_keeps_what_is_promised_of_readiness():
    checked = list(conform(only=["ready.*"], jobs=4))
    assert {one.name for one in checked if one.outcome != "passed"} == set()
    assert len(checked) == len(check_names(["ready.*"]))


def test_a_launcher_written_in_python_passes_and_one_that_lies_is_told_by_what(folder):
    done = procession("some_launchers:Sound", "--only", "exit.*", "--jobs", "4", folder=folder)
    assert done.returncode == 0, done.stdout
    assert "0 failed" in done.stderr
    page = folder / "page.html"
    done = procession(
        "some_launchers:AlwaysZero", "--only", "exit.*", "--jobs", "4", "--json", "--html", str(page), folder=folder
    )
    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [row for row in rows if row["outcome"] == "failed"]
    assert failed
    assert all(row["hint"] and row["why"] for row in failed)
    assert "code" in " ".join(row["name"] for row in failed)
    assert failed[0]["name"] in page.read_text()


def test_what_was_found_is_shown_with_what_to_look_at(folder):
    name = "exit.a-code-is-told-as-it-is"
    done = procession("some_launchers:AlwaysZero", "--only", name, folder=folder)
    assert done.returncode == 1
    assert done.stdout.startswith(f"failed       {name}")
    assert "look at: " in done.stdout


def test_a_pattern_that_means_no_check_is_refused(folder):
    with pytest.raises(InvalidArgument, match=r'only = "stopp\.\*": no check is called so; the groups are exec\.\*'):
        check_names(["stopp.*"])
    done = procession("native", "--only", "stopp.*", folder=folder)
    assert done.returncode == 2
    assert '--only = "stopp.*"' in done.stderr
    done = procession("docker:image", "--jobs", "0", folder=folder)
    assert done.returncode == 2
    assert "--jobs" in done.stderr


MARKED = """
import pytest

@pytest.mark.conformance("native", only=["exit.code-0-is-told-as-code-0"])
def test_the_native_launcher(conformance_check):
    conformance_check()

@pytest.mark.conformance("broken_launcher:Broken", only=["exit.a-code-is-told-as-it-is", "output.stdout-arrives"])
def test_a_broken_launcher(conformance_check):
    conformance_check()
"""
BROKEN = """
from procession.launch import ProcExitResult, Launcher

class Broken(Launcher):
    async def launch(self, spec, ctx):
        return "nothing"

    async def wait(self, handle):
        return 0

    async def signal(self, handle, signal):
        pass
"""


def test_pytest_runs_the_checks_as_tests_which_pass_are_skipped_or_fail_with_a_hint(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["procession.pytest_plugin"]\n')
    (tmp_path / "test_launchers.py").write_text(MARKED)
    (tmp_path / "broken_launcher.py").write_text(BROKEN)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=55)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed, 1 skipped" in done.stdout
    assert "test_a_broken_launcher[exit.a-code-is-told-as-it-is]" in done.stdout
    assert "promised: " in done.stdout
    assert "look at: " in done.stdout

"""What a launcher would ask for, without a launch."""

import os
import subprocess
import sys

import pytest

from launching import Supervising
from procession import launchers
from procession.actor import this_host
from procession.errors import InvalidArgument, LauncherUnavailable, Unsupported
from procession.launchers import Chaos, Command, Fallback, Record, Replay, Retry, Throttle, Zygote, native

AGENT = [sys.executable, "-m", "procession", "agent", "--stdio"]
PROGRAM = ["sh", "-c", "exit 5"]


@pytest.fixture
def command():
    launcher = Command("env GREETING=hello {argv}", agent=AGENT)
    yield launcher
    launcher.close().get(30)


def test_it_has_the_command_and_what_that_is_told_without_any_value_of_the_environment(command):
    shown = command.dry_run(PROGRAM, readiness="none", env={"TOKEN": "canary"}, name="w")
    assert shown.startswith('"env" "GREETING=hello"'), shown
    for word in ("exit 5", "TOKEN"):
        assert word in shown
    assert "canary" not in shown
    assert shown == launchers.dry_run(command, PROGRAM, readiness="none", env={"TOKEN": "canary"}, name="w")
    ours = command.dry_run()
    assert "procession._proc_main" in ours, ours


def test_combinations_show_what_the_first_launcher_that_is_asked_would_ask_for(command, tmp_path):
    shown = command.dry_run(PROGRAM, readiness="none")
    tape = tmp_path / "tape.jsonl"
    for launcher in (Throttle(Retry(command), at_once=2), Chaos(command, seed=1), Record(command, tape)):
        assert launcher.dry_run(PROGRAM, readiness="none") == shown
    assert not tape.exists(), "nothing was recorded"


def test_it_refuses_what_the_spawn_would_refuse(command):
    with pytest.raises(InvalidArgument, match="env"):
        command.dry_run(PROGRAM, readiness="none", env={"A=B": "x"})
    with pytest.raises(TypeError, match="no_such"):
        command.dry_run(PROGRAM, no_such=True)
    with pytest.raises(Unsupported, match="leave per_host out"):
        command.dry_run(PROGRAM, readiness="none", per_host={"x": 2})
    nowhere = Command("false {argv}", agent=AGENT)
    with pytest.raises(LauncherUnavailable, match="exit status: 1"):
        nowhere.dry_run(PROGRAM, readiness="none")


@pytest.mark.parametrize("launcher", [None, native(), Supervising, Zygote(None), Fallback(native(), None)])
def test_launchers_that_have_no_request_say_so_and_start_nothing(launcher):
    before = this_host().exits()
    with pytest.raises(Unsupported, match="there is no dry run of a"):
        launchers.dry_run(launcher, PROGRAM, readiness="none")
    assert len(this_host().exits()) == len(before)


def test_a_replay_asks_for_nothing(tmp_path):
    with pytest.raises(Unsupported, match="answers from a recording"):
        Replay(tmp_path / "tape.jsonl").dry_run(PROGRAM, readiness="none")


def procession(*arguments):
    return subprocess.run([sys.executable, "-m", "procession", *arguments], capture_output=True, text=True, timeout=50)


def test_the_command_line_prints_it_and_runs_nothing(tmp_path):
    file, made = tmp_path / "mine.toml", tmp_path / "made"
    words = ", ".join(f"'{word}'" for word in AGENT)
    file.write_text(f'launcher = "command"\ncommand = "env {{argv}}"\nagent = [{words}]\n')
    asked = ["--launcher", os.fspath(file), "--env", "TOKEN=canary", "--dry-run", "--", "touch", os.fspath(made)]
    done = procession("run", "-n", "3", *asked)
    assert (done.returncode, done.stderr) == (0, "")
    for word in (os.fspath(made), "TOKEN", "RANK", "WORLD_SIZE"):
        assert word in done.stdout
    assert "canary" not in done.stdout
    assert not made.exists()
    refused = procession("run", "--dry-run", "--", "true")
    assert refused.returncode == 2
    assert "there is no dry run of a NativeLauncher" in refused.stderr

"""`procession why` after the program has ended: what is kept, what is found, and what is never kept."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CANARY = "c4n4ry-of-a-secret"

PROGRAM = f"""
from procession.actor import this_host

def main():
    procs = this_host().spawn_procs(
        per_host={{"x": 3}},
        name="w",
        bootstrap_command=["/bin/sh", "-c", "echo hello from $WHO; [ $WHO != 1 ] || kill -9 $$", "{CANARY}"],
        readiness="none",
        env=lambda point: {{"WHO": str(point.rank), "TOKEN": "{CANARY}" + str(point.rank), "SAME": "{CANARY}"}},
    )
    procs.wait(20).get()

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def state(tmp_path):
    """A state directory of this test's own."""
    return tmp_path / "state"


def why(state, *args):
    command = [sys.executable, "-m", "procession", "why", *args]
    environment = {**os.environ, "PROCESSION_STATE_DIR": str(state)}
    return subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment)


def test_the_last_failure_of_the_last_run_is_told_with_its_siblings_once_all_is_over(script, state):
    script(PROGRAM, env={"PROCESSION_STATE_DIR": str(state)})
    told = why(state)
    assert told.returncode == 0, told.stderr
    text = told.stdout
    assert text.startswith("w-1 (rank 1, incarnation 1): killed: signal 9 (SIGKILL), not requested by us\n")
    assert "kernel, as parent" in text
    assert "stdout\n  hello from 1\n" in text
    assert "it: signal 9; 2 others: 2 x code 0" in text
    assert "variables that are not the same everywhere (values are not kept): TOKEN, WHO\n" in text
    assert CANARY not in text


def test_no_value_of_a_variable_and_no_argument_is_kept_and_files_are_for_their_user_alone(script, state):
    script(PROGRAM, env={"PROCESSION_STATE_DIR": str(state)})
    files = [file for file in state.rglob("*") if file.is_file()]
    assert len(files) == 3
    for file in files:
        assert CANARY.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o600
    assert (state / "exits").stat().st_mode & 0o777 == 0o700
    shown = why(state, "w-0", "--json").stdout
    assert CANARY not in shown
    assert {"SAME", "TOKEN", "WHO"} <= set(json.loads(shown)["beside"]["env"])


def test_an_end_is_found_by_name_id_or_prefix_and_candidates_are_shown_where_several_fit(script, state):
    script(PROGRAM, env={"PROCESSION_STATE_DIR": str(state)})
    one = json.loads(why(state, "w-2", "--json").stdout)["exit"]
    assert (one["name"], one["kind"], one["certificate"]["verdict"]) == ("w-2", "exited", "clean")
    for key in (one["proc_id"], one["launch_id"], one["launch_id"][:12]):
        assert json.loads(why(state, key, "--json").stdout)["exit"]["launch_id"] == one["launch_id"]
    several = why(state, "w")
    assert (several.returncode, several.stdout) == (2, "")
    assert "'w' fits 3 ended procs; name one:" in several.stderr
    assert all(f"  w-{rank}  " in several.stderr for rank in range(3))
    nothing = why(state, "nobody")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr == "procession why: no ended proc that was recorded fits 'nobody'\n"


def test_of_several_runs_the_last_is_told_and_of_a_name_the_last_end(script, state):
    for code in (3, 5):
        script(PROGRAM.replace("kill -9 $$", f"exit {code}"), env={"PROCESSION_STATE_DIR": str(state)})
        for asked in ((), ("w-1",)):
            told = why(state, *asked).stdout
            assert told.startswith(f"w-1 (rank 1, incarnation 1): app error: exit code {code}\n")
            assert "2 others: 2 x code 0" in told, "its siblings are those of its own run"


def test_a_run_without_a_failure_says_so(script, state):
    script(PROGRAM.replace("kill -9 $$", "true"), env={"PROCESSION_STATE_DIR": str(state)})
    told = why(state)
    assert told.returncode == 1
    assert "nothing went wrong in the last run" in told.stderr


def test_nothing_is_kept_where_that_is_turned_off(script, state, tmp_path):
    quiet = {"PROCESSION_STATE_DIR": "", "XDG_STATE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}
    script(PROGRAM, env=quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["script.py"]
    told = why("")
    assert told.returncode == 1
    assert "no records are kept" in told.stderr


def test_without_a_word_on_it_records_are_below_the_state_home_of_the_user(script, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PROCESSION_STATE_DIR"}
    environment |= {"XDG_STATE_HOME": str(tmp_path / "xdg")}
    (tmp_path / "script.py").write_text(PROGRAM)
    subprocess.run([sys.executable, str(tmp_path / "script.py")], env=environment, check=True, timeout=50)
    assert len(list((tmp_path / "xdg/procession/exits").iterdir())) == 3


def test_what_ended_before_the_client_was_killed_is_still_told(script, state):
    done = script(
        """
        import os, signal, time
        from pathlib import Path
        from procession.actor import this_host

        def main():
            host = this_host()
            lives = host.spawn_procs(name="lives", bootstrap_command=["/bin/sleep", "600"], readiness="none")
            lives.initialized.get(20)
            ends = host.spawn_procs(name="ends", bootstrap_command=["/bin/sh", "-c", "exit 3"], readiness="none")
            ends.wait(20).get()
            folder = Path(os.environ["PROCESSION_STATE_DIR"]) / "exits"
            while not (folder.exists() and any(file.name.startswith("f-") for file in folder.iterdir())):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

        main()
        """,
        env={"PROCESSION_STATE_DIR": str(state)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert why(state).stdout.startswith("ends-0 (rank 0, incarnation 1): app error: exit code 3\n")
    assert why(state, "lives-0").returncode == 1


def test_a_state_directory_that_cannot_be_written_costs_no_exit(script, tmp_path):
    (tmp_path / "file").write_text("")
    done = script(PROGRAM + "    print('all have ended')", env={"PROCESSION_STATE_DIR": str(tmp_path / "file")})
    assert "all have ended" in done.stdout
    assert "panicked" not in done.stderr


def test_files_that_are_no_records_are_passed_over(script, state):
    script(PROGRAM, env={"PROCESSION_STATE_DIR": str(state)})
    folder = state / "exits"
    (folder / "f-999999999999999-00000000000000000000000000000000-w-9").write_bytes(b"\xff" * 100)
    (folder / "README").write_text("not a record")
    assert why(state).stdout.startswith("w-1 ")
    assert why(state, "w-9").returncode == 1


def test_a_core_is_found_where_the_kernel_has_put_it(script, state, tmp_path):
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")) or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("capability: core-file")
    (tmp_path / "cores").mkdir()
    script(
        f"""
        from procession.actor import this_host

        def main():
            command = ["/bin/sh", "-c", "ulimit -c unlimited; kill -SEGV $$"]
            where = {str(tmp_path / "cores")!r}
            procs = this_host().spawn_procs(name="c", bootstrap_command=command, readiness="none", cwd=where)
            procs.wait(20).get()

        main()
        """,
        env={"PROCESSION_STATE_DIR": str(state)},
    )
    (core,) = (tmp_path / "cores").iterdir()
    assert f"  core: {core} (there)" in why(state).stdout


def test_what_still_carries_the_mark_of_an_ended_proc_is_told_as_left_behind(script, state):
    script(PROGRAM, env={"PROCESSION_STATE_DIR": str(state)})
    launch = json.loads(why(state, "w-1", "--json").stdout)["exit"]["launch_id"]
    left = subprocess.Popen(["/bin/sleep", "300"], env={"PROCESSION_LAUNCH_ID": f"{'0' * 32}:{launch}"})
    try:
        assert f"left behind\n  process {left.pid}: sleep" in why(state).stdout
    finally:
        left.kill()
        left.wait()

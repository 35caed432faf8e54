"""`procession run`, as a shell sees it."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest

COMMAND = [sys.executable, "-m", "procession"]


def procession(*args, **kwargs):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=50, **kwargs)


def run_shell(command, *options, **kwargs):
    return procession("run", *options, "--", "/bin/sh", "-c", command, **kwargs)


def test_version_and_help():
    assert re.fullmatch(r"procession \d+\.\d+\.\d+\S*\n", procession("--version").stdout)
    assert "run a program n times" in procession("--help").stdout
    shown = procession("run", "--help").stdout
    for word in ("--launcher", "--json", "--env", "WORLD_SIZE", "128+n", "Ctrl-C"):
        assert word in shown


def test_each_process_knows_its_rank_and_its_output_is_prefixed():
    done = run_shell('echo "$RANK of $WORLD_SIZE, $LOCAL_RANK here"; echo "error $RANK" >&2', "-n", "3", "--name", "w")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == [f"[{n}] {n} of 3, {n} here" for n in range(3)]
    errors = done.stderr.splitlines()
    assert sorted(line for line in errors if line.startswith("[")) == [f"[{n}] error {n}" for n in range(3)]
    table = [line for line in errors if not line.startswith("[")]
    assert table[0].split()[:4] == ["rank", "name", "launcher", "inc"]
    assert [line.split()[:4] for line in table[1:]] == [[str(n), f"w-{n}", "native", "1"] for n in range(3)]


@pytest.mark.parametrize(
    ("command", "code", "word"), [("exit 3", 3, "code 3"), ("kill -9 $$", 137, "signal 9"), ("true", 0, "code 0")]
)
def test_its_exit_code_is_that_of_the_program(command, code, word):
    done = run_shell(command)
    assert done.returncode == code
    assert word in done.stderr


def test_its_exit_code_is_that_of_the_first_to_fail(tmp_path):
    gate = tmp_path / "gate"
    command = f"case $RANK in 0) exit 0;; 1) while [ ! -e {gate} ]; do sleep 0.01; done; exit 1;; 2) touch {gate}.x; exit 2;; esac"
    opener = f"[ $RANK = 3 ] && while [ ! -e {gate}.x ]; do sleep 0.01; done && sleep 0.3 && touch {gate}; {command}"
    assert run_shell(opener, "-n", "4").returncode == 2


def test_a_program_that_cannot_be_run_is_125():
    done = procession("run", "--", "/no/such/program")
    assert done.returncode == 125
    assert "/no/such/program" in done.stderr


def test_json_is_one_object_a_line_and_nothing_else_on_stdout():
    done = run_shell("echo out; echo err >&2; exit 4", "--json", "-n", "2")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 4
    assert events[-1] == {"event": "result", "exit_code": 4}
    exits = [one for one in events if one["event"] == "exit"]
    assert [(one["rank"], one["exit_code"], one["stderr_tail"]) for one in exits] == [(0, 4, ["err"]), (1, 4, ["err"])]
    output = {(one["rank"], one["stream"], one["line"]) for one in events if one["event"] == "output"}
    assert output == {(rank, stream, stream[3:]) for rank in (0, 1) for stream in ("stdout", "stderr")}


def test_environment_and_directory_are_passed_on(tmp_path):
    environ = {**os.environ, "GONE": "x"}
    done = run_shell(
        'echo "$A|${GONE-unset}|$PWD"', "--env", "A=1=2", "--env", "GONE", "--cwd", str(tmp_path), env=environ
    )
    assert done.stdout == f"[0] 1=2|unset|{tmp_path}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run"], "name a program after --"),
        (["run", "-n", "0", "--", "true"], "at least 1"),
        (["run", "-n", "x", "--", "true"], "invalid int"),
        (["run", "--launcher", "docker", "--", "true"], "module:Class"),
        (["run", "--launcher", "no_such_module:X", "--", "true"], "no_such_module"),
        (["run", "--name", "a/b", "--", "true"], "character '/'"),
        (["run", "--env", "=x", "--", "true"], "env key"),
        (["run", "--stop-grace", "nan", "--", "true"], "stop_grace"),
        (["fly"], "invalid choice"),
        ([], "required"),
    ],
)
def test_errors_of_usage_are_2_and_say_what_to_do(args, words):
    done = procession(*args)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


class Running:
    """The command, running, with what it has printed so far."""

    def __init__(self, *args, **kwargs):
        self.process = subprocess.Popen(
            [*COMMAND, "run", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
        )

    def wait_for_lines(self, count):
        return [self.process.stdout.readline() for _ in range(count)]

    def end(self):
        out, err = self.process.communicate(timeout=40)
        return self.process.returncode, out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_interrupt_stops_gracefully(number, code):
    running = Running(
        "-n", "2", "--", "/bin/sh", "-c", "trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    )
    running.wait_for_lines(2)
    running.process.send_signal(number)
    returned, out, err = running.end()
    assert (returned, out.count("stopping")) == (code, 2)
    assert "interrupt again to kill" in err
    assert len(re.findall(r"code 0 +stopped by us", err)) == 2


def test_a_second_interrupt_kills():
    running = Running(
        "--stop-grace", "30", "--", "/bin/sh", "-c", "trap 'echo refusing' TERM; echo up; while :; do sleep 0.05; done"
    )
    running.wait_for_lines(1)
    running.process.send_signal(signal.SIGINT)
    assert running.wait_for_lines(1) == ["[0] refusing\n"]
    running.process.send_signal(signal.SIGINT)
    returned, _, err = running.end()
    assert returned == 130
    assert "killing" in err
    assert "signal 9" in err


def test_a_reader_that_goes_away_changes_nothing():
    running = Running("--", "/bin/sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 6")
    running.wait_for_lines(1)
    running.process.stdout.close()
    running.process.stdout = None
    _, err = running.process.communicate(timeout=40)
    assert running.process.returncode == 6
    assert "Traceback" not in err
    assert "code 6" in err


def test_a_program_may_say_when_it_is_ready():
    code = """
    import os, socket
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
    """
    done = procession("run", "--json", "--", sys.executable, "-c", textwrap.dedent(code))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert next(one for one in events if one["event"] == "exit")["ready_at"] is not None


def test_another_launcher_can_be_named(tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            from procession.launch import ProcLauncher, supervise

            class Mine(ProcLauncher):
                def __init__(self):
                    super().__init__()
                    self.running = {}

                async def launch(self, exit_port, proc_id, opts):
                    self.running[proc_id] = await supervise(opts)
                    exit_port.send(await self.running[proc_id].wait())

                async def terminate(self, proc_id, timeout_secs):
                    await self.running[proc_id].terminate(timeout_secs)

                async def kill(self, proc_id):
                    await self.running[proc_id].kill()
            """
        )
    )
    done = run_shell("echo through mine; exit 8", "--launcher", "mine:Mine", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (8, "[0] through mine\n"), done.stderr
    assert "Mine" in done.stderr.splitlines()[-1]


def test_colours_are_for_terminals_that_want_them():
    import pty

    def shown(**env):
        leader, follower = pty.openpty()
        environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | env
        with subprocess.Popen(
            [*COMMAND, "run", "--", "echo", "x"], stdout=follower, stderr=subprocess.DEVNULL, env=environ
        ):
            os.close(follower)
            line = os.read(leader, 1000)
        os.close(leader)
        return line

    assert b"\x1b[" in shown()
    assert b"\x1b[" not in shown(NO_COLOR="1")

"""`procession run`, as a shell sees it."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pwd import getpwnam

import pytest

from capabilities import need
from launching import process_state, until

COMMAND = [sys.executable, "-m", "procession"]
LAUNCHER = """
from procession.launch import ProcLauncher, supervise

class Mine(ProcLauncher):
    async def launch(self, exit_port, proc_id, opts):
        process = await supervise(opts)
        self.report(proc_id, pid=process.pid)
        exit_port.send(await process.wait())

    async def terminate(self, proc_id, timeout_secs): ...
    async def kill(self, proc_id): ...
"""


def procession(*args, **kwargs):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=50, **kwargs)


def run_shell(command, *options, **kwargs):
    return procession("run", *options, "--", "/bin/sh", "-c", command, **kwargs)


def test_version_and_help():
    assert re.fullmatch(r"procession \d+\.\d+\.\d+\S*\n", procession("--version").stdout)
    assert "run a program n times" in procession("--help").stdout
    shown = procession("run", "--help").stdout
    for word in ("--launcher", "--json", "--memory", "--rlimit", "--env", "WORLD_SIZE", "128+n", "Ctrl-C"):
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
    # Rank 1 fails once the process of rank 2 is gone, and something that came later has been heard of.
    second, gate = tmp_path / "second", tmp_path / "gate"
    command = f"""
        case $RANK in
        1) while [ ! -s {second} ]; do sleep 0.01; done
           while [ -e /proc/$(cat {second}) ]; do sleep 0.01; done
           echo gone
           while [ ! -e {gate} ]; do sleep 0.01; done
           exit 1;;
        2) echo $$ > {tmp_path}/new; mv {tmp_path}/new {second}; exit 2;;
        esac"""
    running = Running("-n", "4", "--", "/bin/sh", "-c", command)
    assert running.wait_for_lines(1) == ["[1] gone\n"]
    gate.touch()
    returned, _, err = running.end()
    assert returned == 2, err


def test_a_program_that_cannot_be_run_is_125():
    done = procession("run", "--", "/no/such/program")
    assert done.returncode == 125
    assert "/no/such/program" in done.stderr


def test_json_is_one_object_a_line_and_nothing_else_on_stdout():
    done = run_shell("echo out; echo err >&2; exit 4", "--json", "-n", "2")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 4
    assert events[-1] == {"event": "result", "exit_code": 4, "dropped": 0}
    exits = [one for one in events if one["event"] == "exit"]
    assert [(one["rank"], one["exit_code"], one["stderr_tail"]) for one in exits] == [(0, 4, ["err"]), (1, 4, ["err"])]
    output = {(one["rank"], one["stream"], one["line"]) for one in events if one["event"] == "output"}
    assert output == {(rank, stream, stream[3:]) for rank in (0, 1) for stream in ("stdout", "stderr")}


def test_what_is_run_again_has_each_of_its_ends_in_the_table(tmp_path):
    again = f"echo run $RANK; [ $RANK = 1 ] || [ -e {tmp_path}/second ] || {{ touch {tmp_path}/second; exit 5; }}"
    done = run_shell(again, "-n", "2", "--restart", "on_failure", "--max-restarts", "3", "--within", "60")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["[0] run 0", "[0] run 0", "[1] run 1"]
    rows = [line.split() for line in done.stderr.splitlines()[1:]]
    assert [(row[0], row[3]) for row in rows] == [("0", "1"), ("0", "2"), ("1", "1")]
    assert "app error: exit code 5" in done.stderr


def test_what_fails_again_and_again_is_given_up_and_its_last_end_counts():
    done = run_shell("exit 3", "--restart", "on_failure", "--max-restarts", "2", "--within", "5", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == events[-1]["exit_code"] == 3
    assert [(one["incarnation"], one["final"]) for one in events[:-1]] == [(1, False), (2, False), (3, True)]
    assert events[-2]["verdict"] == "app error: exit code 3; not restarted: RestartLimit 2 in 5 s"


def test_environment_and_directory_are_passed_on(tmp_path):
    environ = {**os.environ, "GONE": "x"}
    done = run_shell(
        'echo "$A|${GONE-unset}|$PWD"', "--env", "A=1=2", "--env", "GONE", "--cwd", str(tmp_path), env=environ
    )
    assert done.stdout == f"[0] 1=2|unset|{tmp_path}\n"


def test_limits_are_those_that_it_was_asked_for():
    limited = run_shell("ulimit -S -n; ulimit -H -n; ulimit -c", "--rlimit", "nofile=77:99", "--rlimit", "core=0")
    assert (limited.returncode, limited.stdout) == (0, "[0] 77\n[0] 99\n[0] 0\n")
    need("change-user")
    other = run_shell("id -u; id -g", "--user", "nobody:12")
    assert (other.returncode, other.stdout) == (0, f"[0] {getpwnam('nobody').pw_uid}\n[0] 12\n")


def test_a_group_is_held_to_its_limits():
    need("memory-limit", "pids-limit")
    many = run_shell("sleep 1000 & sleep 1000 & sleep 1000 & echo all", "--pids", "2")
    assert many.returncode != 0
    assert "all" not in many.stdout
    hog = "import sys\nwhole = []\nwhile True: whole.append(bytes(1 << 20))"
    large = procession("run", "--memory", "48M", "--json", "--", sys.executable, "-S", "-c", hog)
    (one,) = (event for event in map(json.loads, large.stdout.splitlines()) if event["event"] == "exit")
    assert (large.returncode, one["oom"]) == (137, True)


ALWAYS = ["--restart", "always"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run"], "name a program"),
        (["run", "--"], "name a program"),
        (["run", ""], 'program = "": a path cannot be empty'),
        (["run", "-n", "0", "--", "true"], "at least 1"),
        (["run", "-n", "x", "--", "true"], "invalid int"),
        (["run", "--launcher", "docker", "--", "true"], "module:Class"),
        (
            ["run", "--launcher", "no_such_module:X", "--", "true"],
            "ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (["run", "--launcher", "antigravity_:X", "--", "true"], '--launcher = "antigravity_:X": it cannot be imported'),
        (["run", "--name", "a/b", "--", "true"], "character '/'"),
        (["run", "--env", "=x", "--", "true"], "--env key"),
        (["run", "--env", "RANK=7", "--", "true"], "--env RANK = …: every process gets one of its own"),
        (["run", "--env", "WORLD_SIZE", "--", "true"], "--env WORLD_SIZE"),
        (["run", "--stop-grace", "nan", "--", "true"], "--stop-grace = nan"),
        (["run", "--cwd", "", "--", "true"], '--cwd = ""'),
        (["run", "--foo", "--", "true"], "usage: procession run [options]"),
        (["run", "--restart", "sometimes", "--", "true"], "invalid choice"),
        (["run", *ALWAYS, "--max-restarts", "-1", "--", "true"], "--max-restarts = -1: has to be at least 0"),
        (["run", *ALWAYS, "--within", "0", "--", "true"], "--within = 0: has to be more than 0 seconds"),
        (["run", *ALWAYS, "--within", "nan", "--", "true"], "--within = nan"),
        (["run", "--max-restarts", "3", "--", "true"], "--max-restarts: say when to restart too, with --restart"),
        (["start", "--host", "x", "--name", "y", "--within", "9", "--", "true"], "--within: say when to restart too"),
        (["run", "--log-keep", "2", "--", "true"], "--log-keep: give the directory of the files too"),
        (["run", "--log-dir", "/proc/self", "--", "true"], '--log-dir = "/proc/'),
        (["run", "--log-max-bytes", "10M", "--", "true"], "--log-max-bytes = 10485760: give the directory"),
        (["run", "--log-max-bytes", "10X", "--", "true"], '--log-max-bytes = "10X": has to be a number of bytes'),
        (["run", "--memory", "lots", "--", "true"], '--memory = "lots": has to be a number of bytes'),
        (["run", "--memory", "4096", "--", "true"], "--memory = 4096: has to be at least 1M"),
        (["run", "--pids", "0", "--", "true"], "--pids = 0: has to be at least 1"),
        (["run", "--cpu", "nan", "--", "true"], "--cpu = nan: has to be a number of processors"),
        (["run", "--user", "nobody-of-that-name", "--", "true"], '--user = "nobody-of-that-name": this machine knows'),
        (["run", "--user", "root:", "--", "true"], "--user"),
        (["run", "--rlimit", "nofile", "--", "true"], '--rlimit = "nofile": has to be NAME=SOFT or NAME=SOFT:HARD'),
        (["run", "--rlimit", "nofile=some", "--", "true"], '--rlimit nofile = "some": has to be a number'),
        (["run", "--rlimit", "nofile=9:3", "--", "true"], "--rlimit nofile = (9, 3): the soft limit"),
        (["run", "--rlimit", "files=9", "--", "true"], "known are as, core, cpu"),
        (["run", "--log-dir", "x", "--log-keep", "-1", "--", "true"], "--log-keep = -1"),
        (["run", "--fold", "--json", "--", "true"], "leave one out"),
        (["fly"], "invalid choice"),
        (["why", "--foo"], "usage: procession why"),
        (["doctor", "--foo"], "usage: procession doctor"),
        (["serve", "--state", "x", "--foo"], "usage: procession serve"),
        (["logs", "--host", "x", "a/b"], "character '/' at index 1"),
        ([], "required"),
    ],
)
def test_errors_of_usage_are_2_and_say_what_to_do(args, words):
    done = procession(*args)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if args[:1] == ["run"]:
        assert "usage: procession run [options]" in done.stderr


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["echo", "-n", "2", "--json"], "2 --json"),
        (["--", "echo", "--", "-x"], "-- -x"),
        (["echo", "a", "--", "b"], "a -- b"),
    ],
)
def test_options_end_where_the_program_begins(words, printed):
    done = procession("run", *words)
    assert (done.returncode, done.stdout) == (0, f"[0] {printed}\n")


def test_nothing_of_a_fast_program_is_lost(tmp_path):
    shown = tmp_path / "shown"
    with shown.open("w") as file:
        done = subprocess.run([*COMMAND, "run", "seq", "300000"], stdout=file, stderr=subprocess.PIPE, timeout=50)
    assert done.returncode == 0, done.stderr
    assert shown.read_text() == "".join(f"[0] {number}\n" for number in range(1, 300_001))


def wait_until_it_waits(pid):
    """For a program that never sleeps but for a pipe that is full."""
    until(lambda: process_state(pid) == "S", "the program waits")


@pytest.mark.fault("F68")
@pytest.mark.parametrize("options", [[], ["--launcher", "mine:Mine"]])
def test_a_program_whose_output_nobody_reads_waits_and_goes_on_when_it_is_read(options, tmp_path):
    (tmp_path / "mine.py").write_text(LAUNCHER)
    running = Running(*options, "--", "/bin/sh", "-c", "echo $$; exec seq 1 2000000", cwd=tmp_path)
    (first,) = running.wait_for_lines(1)
    wait_until_it_waits(int(first.split()[1]))
    returned, out, _ = running.end()
    assert returned == 0
    assert out.endswith("\n[0] 2000000\n")
    assert out.count("\n") == 2_000_000


def test_a_line_of_any_length_is_shown_whole():
    done = run_shell("head -c 200000 /dev/zero | tr '\\0' x; echo; echo after", "--json")
    output = [one for one in map(json.loads, done.stdout.splitlines()) if one["event"] == "output"]
    assert [one["ends"] for one in output] == [False, False, False, True, True]
    assert "".join(one["line"] for one in output) == "x" * 200_000 + "after"


class Running:
    """The command, running, with what it has printed so far."""

    def __init__(self, *args, **kwargs):
        self.process = subprocess.Popen(
            [*COMMAND, "run", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
        )

    def wait_for_lines(self, count):
        return [self.process.stdout.readline() for _ in range(count)]

    def end(self):
        # Not communicate(), which passes over what readline has read ahead.
        with ThreadPoolExecutor(1) as reader:
            err = reader.submit(self.process.stderr.read)
            out = self.process.stdout.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.wait(timeout=40), out, err.result()


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


@pytest.mark.fault("F68")
def test_a_reader_that_goes_away_ends_the_run():
    running = Running("-n", "2", "--", "/bin/sh", "-c", "yes; exit 6")
    running.wait_for_lines(1)
    running.process.stdout.close()
    running.process.stdout = None
    _, err = running.process.communicate(timeout=40)
    assert running.process.returncode == 141
    assert "Traceback" not in err
    assert "stdout cannot be written: Broken pipe; stopping" in err
    assert len(re.findall(r"stopped by us \(stop: stdout cannot be written: Broken pipe\): signal 15", err)) == 2


@pytest.mark.fault("F68")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_output_that_cannot_be_written_is_an_error(options):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "run", *options, "--", "/bin/sh", "-c", "echo x; exit 6"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=50,
        )
    assert done.returncode == 74
    assert "stdout cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault("F68")
def test_a_report_that_cannot_be_written_is_an_error_in_one_line():
    with open("/dev/full", "w") as full:
        command = [*COMMAND, "doctor"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (1, "procession: [Errno 28] No space left on device\n")


def test_records_that_cannot_be_read_are_named():
    done = procession("why", "x", env={**os.environ, "PROCESSION_STATE_DIR": "/etc/passwd"})
    assert done.returncode == 1
    assert "the records cannot be read: [Errno 20] Not a directory: '/etc/passwd/exits'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault("F68")
@pytest.mark.parametrize(("closed", "shown"), [("<&- >&-", ""), ("2>&-", "[0] out\n"), ("<&- >&- 2>&-", "")])
def test_a_stream_that_is_closed_discards(closed, shown):
    command = f'{sys.executable} -m procession run -- /bin/sh -c "echo out; exit 7" {closed}'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=50)
    assert done.returncode == 7
    assert done.stdout == shown
    assert "Traceback" not in done.stderr


def test_a_third_interrupt_waits_for_nothing():
    # The command is stuck in the middle of a line that nobody reads.
    running = Running("--stop-grace", "30", "--", "/bin/sh", "-c", "trap '' TERM; echo up; yes")
    running.wait_for_lines(1)
    for said in (b"stopping; interrupt again to kill", b"killing"):
        running.process.send_signal(signal.SIGINT)
        assert said in os.read(running.process.stderr.fileno(), 1000)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=20) == 130
    running.process.stdout.close()
    running.process.stderr.close()


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


def test_the_built_in_launcher_can_be_named():
    done = run_shell("echo through it; exit 8", "--launcher", "native")
    assert (done.returncode, done.stdout) == (8, "[0] through it\n"), done.stderr
    assert done.stderr.splitlines()[-1].split()[:3] == ["0", "procs-1-0", "native"]


def test_another_launcher_can_be_named(tmp_path):
    (tmp_path / "mine.py").write_text(LAUNCHER)
    done = run_shell("echo through mine; exit 8", "--launcher", "mine:Mine", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (8, "[0] through mine\n"), done.stderr
    assert "Mine" in done.stderr.splitlines()[-1]


def test_a_program_in_the_current_directory_is_found_as_by_a_shell(tmp_path):
    program = tmp_path / "here.sh"
    program.write_text("#!/bin/sh\necho from $PWD\n")
    program.chmod(0o755)
    done = procession("run", "./here.sh", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"[0] from {tmp_path}\n")


def test_the_output_and_the_exit_of_a_program_behind_a_launcher_are_whole(tmp_path):
    (tmp_path / "mine.py").write_text(LAUNCHER)
    done = run_shell("seq 1 200000; exit 3", "--launcher", "mine:Mine", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stdout == "".join(f"[0] {number}\n" for number in range(1, 200_001))


def test_what_a_launcher_raises_is_shown_with_its_traceback(tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            from procession.launch import ProcExitResult, ProcLauncher

            class Raises(ProcLauncher):
                async def launch(self, exit_port, proc_id, opts):
                    raise KeyError("partition")

                async def terminate(self, proc_id, timeout_secs): ...
                async def kill(self, proc_id): ...

            class Returns(Raises):
                async def launch(self, exit_port, proc_id, opts):
                    return ProcExitResult(0, None, False, None, [])
            """
        )
    )
    done = run_shell("true", "--launcher", "mine:Raises", cwd=tmp_path)
    assert done.returncode == 125
    assert "[0] KeyError: 'partition'" in done.stderr
    assert re.search(r"\[0\] +File .*mine\.py\", line 6, in launch", done.stderr)
    assert "WARN" not in done.stderr
    done = run_shell("true", "--launcher", "mine:Returns", cwd=tmp_path)
    assert "launch returned its result, which nobody gets: write exit_port.send(result)" in done.stderr


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


def test_output_goes_to_files_too(tmp_path):
    done = run_shell("echo out $RANK; echo err >&2", "-n", "2", "--name", "w", "--log-dir", tmp_path / "logs")
    assert sorted(done.stdout.splitlines()) == ["[0] out 0", "[1] out 1"]
    held = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert held == {
        "w-0.1.out": "out 0\n",
        "w-1.1.out": "out 1\n",
        "w-0.1.err": "err\n",
        "w-1.1.err": "err\n",
    }


def test_lines_are_folded_when_asked_and_each_is_counted(tmp_path):
    # All begin together, and so write some of the same within the time that a line is held.
    meet = f"touch {tmp_path}/$RANK; until [ $(ls {tmp_path} | wc -l) = 4 ]; do sleep 0.01; done"
    done = run_shell(f"{meet}; for n in $(seq 50); do echo same; done; echo own $RANK", "-n", "4", "--fold")
    assert re.search(r"^\[\d+[-,].*\] same|^\[\d\] same \(×", done.stdout, re.MULTILINE)
    shown = [re.fullmatch(r"\[([\d,-]+)\] (.*?)( \(×\d+\))?", line).groups() for line in done.stdout.splitlines()]
    written = {}
    for ranks, line, _ in shown:
        spans = [span.split("-") for span in ranks.split(",")]
        written[line] = written.get(line, 0) + sum(int(span[-1]) - int(span[0]) + 1 for span in spans)
    assert written == {"same": 200, **{f"own {rank}": 1 for rank in range(4)}}
    assert re.findall(r"×", run_shell("echo same", "-n", "4", "--no-fold").stdout) == []


def test_an_agent_does_not_speak_to_a_terminal():
    terminal, ours = os.openpty()
    try:
        command = [sys.executable, "-m", "procession", "agent", "--stdio"]
        done = subprocess.run(command, stdin=ours, capture_output=True, text=True, timeout=30)
    finally:
        os.close(terminal)
        os.close(ours)
    assert done.returncode == 2
    assert "these are a terminal" in done.stderr
    assert done.stdout == ""

"""Procs that are forked from an interpreter which has imported what they need, and those that are executed instead."""

import os
import resource
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from launching import only_exit, until
from procession._host_mesh import default_bootstrap_cmd
from procession.actor import Actor, endpoint, this_host
from procession.config import FORK_SERVER_ENV

FACTS = ("PROCESSION_LAUNCH_ID",)


class Looking(Actor):
    """What a proc is, as far as it can tell."""

    @endpoint
    def is_forked(self):
        return "procession._fork_server" in sys.modules

    @endpoint
    def pids(self):
        return os.getpid(), os.getppid()

    @endpoint
    def facts(self):
        status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
        umask = os.umask(0o077)
        os.umask(umask)
        return {
            "argv": sys.argv,
            "orig_argv": sys.orig_argv,
            "cwd": os.getcwd(),
            "environment": {k: v for k, v in os.environ.items() if k not in FACTS},
            "path": sys.path,
            "flags": {name: getattr(sys.flags, name) for name in ("hash_randomization", "utf8_mode", "dev_mode")},
            "main": sys.modules["__main__"].__spec__.name,
            "leads": os.getpid() == os.getsid(0) == os.getpgid(0),
            "signals": [status[key] for key in ("SigBlk", "SigIgn", "SigCgt", "ShdPnd")],
            "umask": umask,
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "out of memory": Path("/proc/self/oom_score_adj").read_text(),
            "stdin": os.readlink("/proc/self/fd/0"),
            "outputs": [(s.encoding, s.errors, s.line_buffering, s.seekable()) for s in (sys.stdout, sys.stderr)],
            "descriptors": sorted(
                kind_of(fd) for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")
            ),
            "own group": [line.count("procession-") for line in Path("/proc/self/cgroup").read_text().splitlines()],
        }

    @endpoint
    def shown(self):
        own = Path("/proc/self")
        environ = dict(v.partition(b"=")[::2] for v in (own / "environ").read_bytes().split(b"\0"))
        marker = environ[b"PROCESSION_LAUNCH_ID"].decode()
        return (own / "cmdline").read_bytes().rstrip(b"\0"), (own / "comm").read_text(), marker, environ

    @endpoint
    def random_state(self, modules):
        import random
        import uuid

        drawn = [random.random(), uuid.uuid4().hex]
        if "numpy" in modules:
            import numpy

            drawn.append(float(numpy.random.random()))
        return drawn

    @endpoint
    def of_module(self, name, attribute):
        return getattr(sys.modules[name], attribute)

    @endpoint
    def leave_a_daemon(self):
        script = "setsid sh -c 'sleep 1000 > /dev/null & echo $!' "
        return int(subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout)

    @endpoint
    def end(self, code):
        os._exit(code)


class Ending(Actor):
    def __init__(self):
        import atexit

        atexit.register(print, "at exit", end="")

    def __cleanup__(self, reason):
        print("cleaned up", end=" ")


def kind_of(fd):
    return os.readlink(f"/proc/self/fd/{fd}").partition(":")[0].replace(str(os.getpid()), "self")


def looking(**options):
    procs = this_host().spawn_procs(**options)
    return procs, procs.spawn("looking", Looking)


def is_forked(**options):
    procs, actors = looking(**options)
    with procs:
        return actors.is_forked.call_one().get(60)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module for procs to preload."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return make


def keeper_of(pid):
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert Path(f"/proc/{parent}/comm").read_text().startswith("procession-")
    return parent


def servers():
    """The interpreters that procs of this process are forked from."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{entry}/cmdline").read_bytes()
            parents = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            above = int(Path(f"/proc/{parents}/stat").read_text().rpartition(")")[2].split()[1])
            guard = int(Path(f"/proc/{above}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"--fork-server" in line and os.getpid() in (above, guard):
            found.append(int(entry))
    return found


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    "environment", [{}, {"OMP_NUM_THREADS": "7", "ADDED": "1", "TERM": None}], ids=["same", "other"]
)
def test_a_fork_is_what_an_executed_proc_is(tmp_path, environment):
    facts = []
    for forked in (True, False):
        procs, actors = looking(fork_server=forked, name="same", env=environment, cwd=tmp_path)
        with procs:
            assert actors.is_forked.call_one().get(60) is forked
            facts.append(actors.facts.call_one().get(60))
    assert facts[0] == facts[1]
    assert facts[0]["environment"].get("OMP_NUM_THREADS") == environment.get("OMP_NUM_THREADS")
    assert not any(name.startswith("PROCESSION_") for name in facts[0]["environment"])
    assert facts[0]["leads"]


def test_what_modules_change_in_the_environment_is_not_what_forks_get(module):
    text = "import os\nos.environ['MADE'] = os.environ['HOME'] = 'by a module'\ndel os.environ['KEPT']\n"
    procs, actors = looking(preload=[module("changing", text)], env={"KEPT": "1"})
    with procs:
        assert actors.is_forked.call_one().get(60)
        environment = actors.facts.call_one().get(60)["environment"]
        assert (environment.get("MADE"), environment["HOME"], environment["KEPT"]) == (None, os.environ["HOME"], "1")


def test_a_fork_is_a_child_of_the_keeper_and_shows_its_own_name_and_mark():
    procs, actors = looking(per_host={"procs": 2}, name="named")
    with procs:
        for rank, (_, (pid, parent)) in enumerate(actors.pids.call().get(60).items()):
            assert parent == keeper_of(pid)
            line, name, marker, environ = actors.slice(procs=rank).shown.call_one().get(60)
            assert line.split(b"\0")[1:3] == [b"-m", b"procession._proc_main"]
            assert f"named-{rank} @ ".encode() in line
            assert name.startswith(f"named-{rank} @"[:15])
            launch = procs.slice(procs=rank).exits  # of a proc that lives there is no exit yet
            assert launch().item() is None
            assert marker.partition(":")[0] in procs._procs.proc_id(rank)
            assert environ[b"PROCESSION_PROCESS_NAME"].startswith(f"named-{rank} @ ".encode())


def test_what_is_preloaded_is_imported_once_for_all_and_before_them(module):
    name = module("once", "import os, gc\nIMPORTED_BY = os.getpid()\n")
    procs, actors = looking(per_host={"procs": 3}, preload=[name])
    with procs:
        importers = set(actors.of_module.call(name, "IMPORTED_BY").get(60).values())
        own = {pid for pid, _ in actors.pids.call().get(60).values()}
        assert len(importers) == 1
        assert len(own) == 3
        assert not importers & own


def test_what_modules_print_when_they_are_imported_is_in_the_output_of_each_proc(module):
    # More of it than a pipe holds.
    text = "import sys\nfor _ in range(100_000): print('told at import')\nprint('and this', file=sys.stderr)\n"
    procs, actors = looking(per_host={"procs": 2}, preload=[module("printing", text)], tail_lines=2)
    with procs:
        assert list(actors.is_forked.call().get(60).values()) == [True, True]
    for end in procs.wait(20).get().values():
        assert (end.stdout_tail, end.stderr_tail) == (["told at import"] * 2, ["and this"])


def test_two_forks_share_no_random_state():
    modules = ["random", "uuid", *(["numpy"] if find_spec("numpy") else [])]
    procs, actors = looking(per_host={"procs": 2}, preload=modules)
    with procs:
        assert list(actors.is_forked.call().get(60).values()) == [True, True]
        one, other = actors.random_state.call(modules).get(60).values()
        assert all(a != b for a, b in zip(one, other, strict=True))


def test_what_is_registered_for_forks_runs_in_each_of_them(module):
    text = "import os\nCALLS = []\nos.register_at_fork(after_in_child=lambda: CALLS.append(os.getpid()))\n"
    procs, actors = looking(per_host={"procs": 2}, preload=[module("hooked", text)])
    with procs:
        calls = list(actors.of_module.call("hooked", "CALLS").get(60).values())
        assert calls == [[pid] for pid, _ in actors.pids.call().get(60).values()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "import threading\nthreading.Thread(target=threading.Event().wait, name='left over', daemon=True).start()\n",
            "1 threads are left of what preload imports (left over)",
        ),
        (
            "import sys, types\nsys.modules['torch'] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))",
            "CUDA is in use after what preload imports (torch.cuda)",
        ),
    ],
)
def test_what_forks_would_not_have_is_executed_and_the_reason_is_told(module, capfd, text, words):
    assert not is_forked(preload=[module("unfit", text)])
    until(lambda: words in capfd.readouterr().err, "the reason is told")


@pytest.mark.parametrize(
    "options",
    [
        {"fork_server": False},
        {"rlimits": {"core": 0}},
        {"security": {"no_new_privs": True}},
        {"bootstrap_command": default_bootstrap_cmd()},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_a_fork_cannot_be_given_is_executed(options):
    assert not is_forked(**options)


def test_the_environment_can_turn_it_off(monkeypatch):
    monkeypatch.setenv(FORK_SERVER_ENV, "off")
    assert not is_forked()
    monkeypatch.delenv(FORK_SERVER_ENV)
    assert is_forked()


def test_what_an_interpreter_reads_when_it_starts_holds_for_forks_too():
    procs, actors = looking(env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"})
    with procs:
        assert actors.is_forked.call_one().get(60)
        flags = actors.facts.call_one().get(60)["flags"]
        assert (flags["hash_randomization"], flags["utf8_mode"]) == (0, 1)


def test_a_server_that_is_killed_touches_no_proc_and_the_next_launches_go_on():
    procs, actors = looking()
    with procs:
        assert actors.is_forked.call_one().get(60)
        for _ in range(4):  # more often than without a fork in between
            for pid in servers():
                os.kill(pid, signal.SIGKILL)
                until(lambda pid=pid: not lives(pid), "the server is gone")
            assert is_forked()
        assert actors.is_forked.call_one().get(60)
        assert len(servers()) == 1


def test_a_server_that_stands_still_costs_time_and_no_launch(capfd):
    assert is_forked()
    for pid in servers():
        os.kill(pid, signal.SIGSTOP)
    assert not is_forked()
    until(lambda: "has not answered for 5s" in capfd.readouterr().err, "it is told")
    assert is_forked()


def test_forks_are_kept_on_by_the_guard_when_their_keeper_is_killed(script):
    script("""
        import os, signal, sys, time
        from pathlib import Path
        from procession.actor import Actor, endpoint, this_host
        class Looking(Actor):
            @endpoint
            def pid(self):
                assert "procession._fork_server" in sys.modules
                return os.getpid()
            @endpoint
            def end(self, code):
                os._exit(code)
        def keeper_of(pid):
            try:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                return parent if Path(f"/proc/{parent}/comm").read_text().startswith("procession-") else None
            except (FileNotFoundError, ProcessLookupError):  # it falls to another parent right now
                return None
        def keeper_but(other):
            until = time.monotonic() + 20
            while (found := keeper_of(pid)) in (None, other):
                assert time.monotonic() < until
            return found
        if __name__ == "__main__":
            import procession.actor
            procession.actor.unhandled_fault_hook = lambda failure: None
            procs = this_host().spawn_procs(per_host={"procs": 2})
            actors = procs.spawn("looking", Looking)
            pid = actors.pid.call().get(60).item(procs=0)
            keeper = keeper_but(None)
            os.kill(keeper, signal.SIGKILL)
            keeper_but(keeper)
            actors.slice(procs=0).end.broadcast(7)
            assert procs.slice(procs=0).wait(20).get().item().exit_code == 7
            assert actors.slice(procs=1).pid.call_one().get(60)
            this_host().spawn_procs().spawn("looking", Looking).pid.call_one().get(60)
    """)


def test_a_daemon_of_a_fork_goes_with_it():
    procs, actors = looking()
    daemon = actors.leave_a_daemon.call_one().get(60)
    assert lives(daemon)
    procs.kill().get(20)
    assert only_exit(procs).signal == signal.SIGKILL
    until(lambda: not lives(daemon), "its daemon is gone")


def test_a_fork_ends_as_an_interpreter_does():
    procs = this_host().spawn_procs()
    procs.spawn("ending", Ending).initialized.get(60)
    procs.stop().get(20)
    end = only_exit(procs)
    assert (end.exit_code, end.stdout_tail) == (0, ["cleaned up at exit"])


def test_a_proc_is_killed_while_its_server_imports(module, tmp_path):
    text = f"import pathlib, signal\npathlib.Path({str(tmp_path / 'begun')!r}).touch()\nsignal.pause()\n"
    procs = this_host().spawn_procs(preload=[module("slowly", text)])
    until((tmp_path / "begun").exists, "the server imports")
    procs.kill().get(20)
    assert only_exit(procs).signal == signal.SIGKILL

"""Who a proc is, its own limits, and what it gives up."""

import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from capabilities import need, python_of_others
from launching import Supervising, exit_told_once, only_exit, spawn
from procession.actor import this_host
from procession.errors import InvalidArgument, Unsupported
from procession.launch import Capabilities, LaunchOptions, supervise

NOBODY = 65534
ALLOW_ALL = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
NOTHING = "0" * 16


class Confining(Supervising):
    """Does what `supervise` can do."""

    capabilities = Capabilities(command_attributes=True, user=True, rlimits=True, security=True)


def status_of(launcher, **kwargs):
    """What `/proc/self/status` says in a proc."""
    procs = spawn(launcher, "cat /proc/self/status", **kwargs)
    end = only_exit(procs)
    assert (end.exit_code, end.failed_reason) == (0, None), end
    return dict(line.split(":\t", 1) for line in end.stdout_tail if ":\t" in line)


BOTH = pytest.mark.parametrize("launcher", [None, Confining], ids=["native", "supervise"])


@pytest.mark.fault("F108")
@BOTH
def test_user_rights_and_filter_are_as_asked(launcher):
    need("change-user", "drop-capabilities")
    security = {"no_new_privs": True, "drop_capabilities": "all", "seccomp": ALLOW_ALL}
    status = status_of(launcher, user=(NOBODY, NOBODY), security=security)
    assert status["Uid"].split() == [str(NOBODY)] * 4
    assert status["Gid"].split() == [str(NOBODY)] * 4
    assert status["Groups"].split() == [str(NOBODY)]
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    for held in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert status[held] == NOTHING


@pytest.mark.fault("F108")
@BOTH
def test_a_user_by_name_has_its_own_groups_and_only_the_named_capabilities_go(launcher):
    need("change-user", "drop-capabilities")
    status = status_of(launcher, user="root", security={"drop_capabilities": ["CAP_NET_RAW", "sys_admin"]})
    assert status["Uid"].split() == ["0"] * 4
    assert status["NoNewPrivs"] == "0"
    dropped = 1 << 13 | 1 << 21
    assert int(status["CapBnd"], 16) & dropped == 0
    assert int(status["CapEff"], 16) & dropped == 0
    assert int(status["CapEff"], 16) & 1


@pytest.mark.fault("F108")
@pytest.mark.parametrize("launcher", [None, Confining], ids=["native", "supervise"])
def test_what_cannot_be_given_up_fails_the_launch_before_the_program_runs(launcher, tmp_path):
    ran = tmp_path / "ran"
    end = exit_told_once(launcher, f"touch {ran}", security={"seccomp": bytes(8)})
    assert end.kind == "failed"
    assert "seccomp" in end.failed_reason
    assert "errno 22" in end.failed_reason.lower()
    assert not ran.exists()


@pytest.mark.fault("F108")
def test_a_proc_of_another_user_reaches_back_and_hosts_actors(script):
    need("change-user")
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which other users may not enter
        Path(folder).chmod(0o755)
        python, env = python_of_others(Path(folder))
        done = script(OF_ANOTHER_USER, python, env["PYTHONPATH"])
    assert done.stdout == "(65534, 65534, [65534])\n"


OF_ANOTHER_USER = """
import os, sys
from procession.actor import Actor, endpoint, this_host
from procession.launch import BootstrapCommand

class Who(Actor):
    @endpoint
    def who(self):
        return os.getuid(), os.getgid(), os.getgroups()

if __name__ == "__main__":
    python, packages = sys.argv[1:]
    code = f"import sys; sys.path.insert(0, {packages!r}); from procession._proc_main import main; sys.exit(main())"
    command = BootstrapCommand(python, args=["-c", code])
    with this_host().spawn_procs(user=65534, bootstrap_command=command, cwd="/") as procs:
        procs.initialized.get(40)
        print(procs.spawn("who", Who).who.call_one().get(30))
"""


@pytest.mark.fault("F108")
@pytest.mark.parametrize("groups", ["0", "0,12"])
def test_groups_that_cannot_be_given_up_are_refused_and_not_kept_in_silence(groups):
    need("change-user")
    if shutil.which("setpriv") is None:
        pytest.skip("capability: setpriv")
    unable = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid", f"--groups={groups}"]
    done = subprocess.run([*unable, sys.executable, "-c", AS_ITSELF], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused = "user = 0:0: this process may not take groups away, or add some: it has no CAP_SETGID; leave it out"
    assert done.stdout.strip() == ("exited 0" if groups == "0" else refused)


AS_ITSELF = """
from procession.actor import this_host
from procession.errors import InvalidArgument
from procession.launch import BootstrapCommand

try:
    procs = this_host().spawn_procs(user=(0, 0), bootstrap_command=BootstrapCommand("/bin/true"))
    end = procs.wait().get(30).item()
    print(end.kind, end.exit_code)
except InvalidArgument as refused:
    print(refused)
"""


@BOTH
def test_rlimits_are_set_soft_and_hard(launcher):
    procs = spawn(
        launcher,
        "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc",
        rlimits={"nofile": (33, 44), "core": 0},
    )
    assert only_exit(procs).stdout_tail == ["33", "44", "0", "0"]


@pytest.mark.fault("F4")
@BOTH
@pytest.mark.parametrize("limit", ["unlimited", 0])
def test_a_core_is_told_of_when_there_is_one(launcher, limit, tmp_path):
    need("core-file")
    if limit and resource.getrlimit(resource.RLIMIT_CORE)[1] != -1 and os.geteuid() != 0:
        pytest.skip("capability: core-limit")
    end = only_exit(spawn(launcher, "kill -ABRT $$", cwd=tmp_path, rlimits={"core": limit}))
    assert (end.signal, end.core_dumped) == (6, bool(limit))
    assert bool(list(tmp_path.iterdir())) is bool(limit)
    assert ("core dumped" in end.verdict) is bool(limit)


@pytest.mark.fault("F37")
def test_procs_are_offered_to_the_kernel_before_host_and_keeper_when_memory_runs_out():
    def score(pid):
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    before = score("self")
    procs = spawn(None, "sleep 1000")
    procs.initialized.get(30)
    pid = procs.statuses().item().pid
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    try:
        assert score(pid) == min(before + 500, 1000)
        assert score(keeper) == before == score("self")
    finally:
        procs.kill().get(30)
        only_exit(procs)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"user": "no-such-user"}, "knows no such user"),
        ({"user": ""}, "knows no such user"),
        ({"user": "a\0b"}, "NUL"),
        ({"user": -1}, "0 to 4294967294"),
        ({"user": 2**32 - 1}, "0 to 4294967294"),
        ({"user": 2**32}, "0 to 4294967294"),
        ({"user": 2**70}, "0 to 4294967294"),
        ({"user": 4_000_000_000}, "(user, group)"),
        ({"user": True}, "a name, a number"),
        ({"user": 1.0}, "a name, a number"),
        ({"user": ("root",)}, "a name, a number"),
        ({"user": (0, 2**32 - 1)}, "0 to 4294967294"),
        ({"user": (0, "no-such-group")}, "knows no such group"),
        ({"rlimits": 3}, "has to be a dict"),
        ({"rlimits": {"files": 3}}, "known are as, core"),
        ({"rlimits": {7: 3}}, "has to be a str"),
        ({"rlimits": {"nofile": -1}}, "at least 0"),
        ({"rlimits": {"nofile": True}}, "has to be an int"),
        ({"rlimits": {"nofile": "3"}}, '"unlimited"'),
        ({"rlimits": {"nofile": (1, 2, 3)}}, "(soft, hard)"),
        ({"rlimits": {"nofile": (2, 1)}}, "above the hard one"),
        ({"rlimits": {"nofile": 2**40}}, "1099511627776: "),
        ({"rlimits": {"core": 2**64}}, "at most"),
        ({"security": "all"}, "has to be a dict"),
        ({"security": {"selinux": ""}}, "known are no_new_privs"),
        ({"security": {"no_new_privs": 1}}, "True or False"),
        ({"security": {"drop_capabilities": "net_raw"}}, 'has to be "all"'),
        ({"security": {"drop_capabilities": ["net"]}}, "net_raw"),
        ({"security": {"drop_capabilities": [1]}}, "has to be a name"),
        ({"security": {"seccomp": "allow"}}, "has to be bytes"),
        ({"security": {"seccomp": bytes(7)}}, "8 bytes for each"),
        ({"security": {"seccomp": b""}}, "an instruction at least"),
        ({"security": {"seccomp": bytes(8 * 4097)}}, "at most 4096"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_starts(asked, words):
    with pytest.raises(InvalidArgument) as error:
        this_host().spawn_procs(bootstrap_command=["true"], readiness="none", **asked)
    assert words in str(error.value)
    assert error.value.field.startswith(next(iter(asked)))


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONPATH"])
def test_code_of_ours_is_not_loaded_into_programs_of_another_user(name):
    with pytest.raises(InvalidArgument, match=name) as error:
        spawn(None, "true", user=(NOBODY if os.getuid() != NOBODY else 1, 1), env={name: "canary"})
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"user": "root"}, "user"),
        ({"rlimits": {"core": 0}}, "rlimits"),
        ({"security": {"no_new_privs": True}}, "security"),
        ({"resources": {"memory": "64M"}}, "resources"),
    ],
)
def test_a_launcher_that_does_not_say_that_it_can_is_not_asked(asked, name):
    class Silent(Supervising):
        """One whose process nobody has started yet."""

    with pytest.raises(Unsupported, match=rf"Capabilities\({name}=True\)"):
        spawn(Silent, "true", **asked)


def test_options_carry_what_was_asked_for_in_numbers(script):
    assert script(OPTIONS).stdout.splitlines() == [
        "{'memory': 67108864, 'pids': 9, 'cpu': 1.5}",
        "(0, 7, [7])",
        "{'core': (0, None), 'nofile': (5, 5)}",
        "{'no_new_privs': True, 'drop_capabilities': ['net_raw'], 'seccomp': b'\\x06\\x00\\x00\\x00\\x00\\x00\\xff\\x7f'}",
    ]


OPTIONS = """
import struct
from procession.actor import this_host
from procession.launch import Capabilities, ProcExitResult, ProcLauncher


class Showing(ProcLauncher):
    capabilities = Capabilities(resources=True, user=True, rlimits=True, security=True)

    async def launch(self, exit_port, proc_id, opts):
        lines = [repr(one) for one in (opts.resources, opts.user, opts.rlimits, opts.security)]
        exit_port.send(ProcExitResult(0, None, False, None, lines))

    async def terminate(self, proc_id, timeout_secs): ...

    async def kill(self, proc_id): ...


if __name__ == "__main__":
    procs = this_host().spawn_procs(
        launcher=Showing,
        readiness="none",
        bootstrap_command=["true"],
        resources={"memory": "64M", "pids": 9, "cpu": 1.5},
        user=(0, 7),
        rlimits={"nofile": 5, "core": (0, "unlimited")},
        security={
            "no_new_privs": True,
            "drop_capabilities": ["net_raw"],
            "seccomp": struct.pack("HBBI", 6, 0, 0, 0x7FFF0000),
        },
    )
    print(*procs.wait(30).get().item().stderr_tail, sep="\\n")
"""


def test_supervise_refuses_limits_that_take_a_control_group():
    options = LaunchOptions("", "p", sys.executable, None, [], {}, False, 0, None, resources={"memory": 1 << 26})
    with pytest.raises(Unsupported, match="supervise makes no control groups"):
        supervise(options).send(None)

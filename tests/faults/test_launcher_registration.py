"""Launchers that cannot be started, or were written for another version; and many launches at once."""

import os
import pickle
import sys
import textwrap
from collections import Counter
from importlib import import_module, invalidate_caches

import pytest

from launching import CLEAN, Followed, Supervising, only_exit, pid_of_class, spawn
from procession import _pickle, launchers
from procession.actor import endpoint
from procession.errors import LauncherUnavailable, LaunchFailed, NotPicklable, VersionMismatch
from procession.launch import LaunchOptions, ProcExitResult, ProcLauncher

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

LAUNCHES = int(os.environ.get("PROCESSION_SOAK_AT_ONCE", "200"))

MODULE = """
import os
from procession.launch import ProcLauncher
{guard}

class Docker(ProcLauncher):
    async def launch(self, exit_port, proc_id, opts): ...
    async def terminate(self, proc_id, timeout_secs): ...
    async def kill(self, proc_id): ...
"""


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Writes a module that this process can import."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        invalidate_caches()
        names.append(name)
        return import_module(name)

    write.folder = tmp_path
    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def nothing_launched(monkeypatch):
    """As in a client that has launched nothing yet: procs that were do not find the module, which would travel by value."""
    monkeypatch.setattr(_pickle, "_found_by_procs", None)
    monkeypatch.setattr(_pickle, "_by_value", {})


def unavailable(cls, *said):
    """Registration says so, and so does every launch, to which nothing was sent."""
    with pytest.raises(LauncherUnavailable) as caught:
        launchers.register(cls).get(30)
    for text in said:
        assert text in str(caught.value)
    procs = spawn(cls, "true")
    one = only_exit(procs)
    assert one.kind == "failed"
    assert "LauncherUnavailable: actor " in one.failed_reason
    assert "\n" not in one.verdict
    for text in said:
        assert text in one.failed_reason
    with pytest.raises(LaunchFailed, match="LauncherUnavailable"):
        spawn(cls).initialized.get(30)


@pytest.mark.fault("F63")
@pytest.mark.usefixtures("nothing_launched")
def test_an_import_error_in_the_module_of_a_launcher_is_told_at_registration(module):
    guard = f"if os.getpid() != {os.getpid()}: import docker_sdk_that_is_not_there"
    docker = module("launcher_without_its_sdk", MODULE.format(guard=guard)).Docker
    unavailable(docker, "ModuleNotFoundError: No module named 'docker_sdk_that_is_not_there'", "Traceback", "line 4")


@pytest.mark.fault("F63")
@pytest.mark.usefixtures("nothing_launched")
def test_a_syntax_error_in_the_module_of_a_launcher_is_told_at_registration(module):
    docker = module("launcher_that_is_edited", MODULE.format(guard="")).Docker
    (module.folder / "launcher_that_is_edited.py").write_text("class Docker(\n")
    unavailable(docker, "SyntaxError", "Traceback", "class Docker(")


@pytest.mark.fault("F63")
def test_a_launcher_process_without_cloudpickle_is_told_at_registration(module, monkeypatch):
    monkeypatch.setenv("PROCESSION_FORK_SERVER", "off")  # which has imported it before

    class ByValue(Supervising):
        """Its definition has to be sent along."""

    import cloudpickle  # before it cannot be any more

    assert cloudpickle
    (module.folder / "cloudpickle.py").write_text("raise ModuleNotFoundError(\"No module named 'cloudpickle'\")\n")
    unavailable(ByValue, "ModuleNotFoundError: No module named 'cloudpickle'", "Traceback")


@pytest.mark.fault("F63")
def test_what_a_launcher_raises_when_it_is_built_is_told_at_registration():
    class Broken(Supervising):
        def __init__(self):
            raise OSError("no daemon answers")

    unavailable(Broken, "OSError: no daemon answers", "Traceback", "in __init__")


def test_a_launcher_that_is_registered_is_there_for_its_first_launch():
    class Prepared(Supervising):
        pass

    assert launchers.register(Prepared).get(30) is None
    pid = pid_of_class(Prepared)
    assert only_exit(spawn(Prepared, "exit 4")).exit_code == 4
    assert pid_of_class(Prepared) == pid
    assert launchers.register(Prepared).get(30) is None
    assert pid_of_class(Prepared) == pid


@pytest.mark.fault("F62")
def test_options_of_an_older_version_get_the_defaults_of_what_they_lack():
    options = LaunchOptions("payload", "p @ h", "true", None, [], {}, False, 0, None)
    older = pickle.loads(pickle.dumps(options))
    for name in ("cwd", "clear_env", "env_remove"):
        del older.__dict__[name]
    assert pickle.loads(pickle.dumps(older)) == options
    del older.__dict__["program"]
    with pytest.raises(VersionMismatch, match="another version of procession and lack program"):
        pickle.loads(pickle.dumps(older))


@pytest.mark.fault("F62")
def test_options_of_a_newer_version_keep_what_is_not_known_here():
    newer = LaunchOptions("payload", "p @ h", "true", None, [], {}, False, 0, None)
    newer.__dict__["gpus"] = 4
    here = pickle.loads(pickle.dumps(newer))
    assert (here.gpus, here.argv) == (4, ["true"])


class FromTheFuture(Supervising):
    requires = ("cwd", "time_travel")


@pytest.mark.fault("F62")
@pytest.mark.parametrize("use", [launchers.register, lambda cls: spawn(cls, "true")], ids=["register", "spawn"])
def test_a_launcher_that_needs_what_this_version_does_not_give_is_refused_at_registration(use):
    with pytest.raises(
        VersionMismatch, match=r"FromTheFuture requires time_travel .*which procession .* does not give"
    ):
        use(FromTheFuture)


@pytest.mark.fault("F62")
def test_an_actor_that_needs_what_this_version_does_not_give_is_refused_too(spawned):
    with pytest.raises(VersionMismatch, match="time_travel"):
        spawn(spawned(FromTheFuture), "true")


class Counting(ProcLauncher):
    """Writes down the order of what it is asked; its procs end when they are killed, or at once."""

    def __init__(self, params=None):
        super().__init__(params)
        self.calls, self.ports = [], {}

    async def launch(self, exit_port, proc_id, opts):
        self.calls.append((proc_id, "launch"))
        if "STAY" in opts.env:
            self.ports[proc_id] = exit_port
        else:
            exit_port.send(CLEAN)

    async def terminate(self, proc_id, timeout_secs):
        self.calls.append((proc_id, "terminate"))

    async def kill(self, proc_id):
        self.calls.append((proc_id, "kill"))
        self.ports.pop(proc_id).send(ProcExitResult(None, 9, False, None, []))

    @endpoint
    async def get_calls(self):
        return self.calls


@pytest.mark.fault("F64")
@pytest.mark.timeout(600)
def test_many_launches_at_once_through_one_launcher_all_end_in_order(spawned):
    launcher = spawned(Counting)
    short = Followed(launcher, "true", per_host={"x": LAUNCHES}, name="short")
    long = Followed(launcher, "true", per_host={"x": LAUNCHES}, name="long", env={"STAY": "1"})
    long.procs.terminate(0).get(300)
    assert Counter(one.exit_code for one in short.exits()) == {0: LAUNCHES}
    ended = long.exits()
    assert all(one.requested for one in ended)
    calls = {}
    for proc_id, call in launcher.get_calls.call_one().get(30):
        calls.setdefault(proc_id, []).append(call)
    for one in ended:
        asked = calls.get(one.proc_id, [])
        if one.kind == "signaled":
            assert asked[0] == "launch"
            assert "kill" in asked
        else:
            assert (asked, "cancelled before start" in one.failed_reason) == ([], True)


class WithALock(Supervising):
    pass


def test_bad_input_a_launcher_class_that_cannot_be_sent_is_refused_before_anything_starts():
    import threading

    class Holding(Supervising):
        guard = threading.Lock()

    before = os.listdir("/proc/self/fd")
    with pytest.raises(NotPicklable, match=r"guard is a _thread\.lock"):
        spawn(Holding, "true")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_bad_input_params_that_cannot_be_sent_name_the_part(spawned, four):
    import threading

    with pytest.raises(NotPicklable, match=r"\['client'\]\['lock'\] is a _thread\.lock"):
        four.slice(gpus=0).spawn("holding", WithALock, {"client": {"lock": threading.Lock()}})


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"requires": "cwd"}, "requires"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"max_restarts": True}, "max_restarts"),
        ({"restart_seconds": float("nan")}, "restart_seconds"),
    ],
)
def test_bad_input_attributes_of_a_launcher_are_checked_where_it_is_defined(attributes, said):
    with pytest.raises(ValueError, match=said):
        type("Odd", (Supervising,), attributes)

"""Procs that are forked from one process, which another launcher has started."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from launching import Followed, Supervising, gone, only_exit, pid_of_class, until
from procession import hosts_from_launcher
from procession.actor import Actor, endpoint, this_host
from procession.errors import InvalidArgument, LaunchFailed
from procession.launch import Capabilities, ProcExitResult, ProcLauncher
from procession.launchers import WorkerLauncher, Zygote, native
from workers import make_key, serving

PATHS = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


class Executing(ProcLauncher):
    """As somebody writes one with asyncio alone; it remembers the name of what it has executed."""

    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}
        self.executed = []

    async def launch(self, exit_port, proc_id, opts):
        process = await asyncio.create_subprocess_exec(*opts.argv, env=opts.environment(), start_new_session=True)
        self.running[proc_id] = process
        self.executed.append(opts.process_name.partition(" ")[0])
        code = await process.wait()
        exit_port.send(ProcExitResult(code if code >= 0 else None, -code if code < 0 else None, False, None, []))

    async def terminate(self, proc_id, timeout_secs):
        self.running[proc_id].terminate()

    async def kill(self, proc_id):
        self.running[proc_id].kill()

    @endpoint
    async def names(self):
        return self.executed


class Confining(Supervising):
    capabilities = Capabilities(command_attributes=True, rlimits=True)


class Refusing(Supervising):
    async def launch(self, exit_port, proc_id, opts):
        raise PermissionError("there is no room for it")


class Looking(Actor):
    @endpoint
    def is_forked(self):
        return "procession._fork_server" in sys.modules

    @endpoint
    def pids(self):
        return os.getpid(), os.getppid()

    @endpoint
    def of_module(self, name):
        return sys.modules[name].MADE_IN

    @endpoint
    def place(self, key):
        return os.getcwd(), os.environ.get(key), os.environ.get("OMP_NUM_THREADS")

    @endpoint
    def say(self, text):
        print(text, flush=True)

    @endpoint
    def share(self):
        sizes = dict(line.split(":")[:2] for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
        return {name: int(size.split()[0]) for name, size in sizes.items()}

    @endpoint
    def end(self, code):
        os._exit(code)


class Spawning(Actor):
    @endpoint
    def spawn(self):
        self.zygote = Zygote(Supervising)
        self.procs = this_host().spawn_procs(launcher=self.zygote)
        actors = self.procs.spawn("looking", Looking)
        return actors.is_forked.call_one().get(60), zygote_of(actors.pids.call_one().get(60)[1])

    @endpoint
    def close(self):
        self.procs.stop().get(20)
        self.zygote.close().get(20)


class Cleaning(Actor):
    def __cleanup__(self, reason):
        print("cleaned up", flush=True)


def looking(launcher, **options):
    procs = this_host().spawn_procs(launcher=launcher, **options)
    return procs, procs.spawn("looking", Looking)


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def zygote_of(keeper):
    """The process whose keeper, which has a guard above it, is the parent of a fork."""
    return parent_of(parent_of(keeper))


@pytest.fixture
def zygote():
    """Makes them; they end with the test."""
    made = []

    def make(*args, **kwargs):
        made.append(Zygote(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close().get(30)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module for zygotes to preload."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, text="import os\nMADE_IN = os.getpid()\n"):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return make


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def worker(key):
    with serving(key) as worker:
        yield worker


@pytest.fixture(scope="module")
def worker_launcher(worker, key):
    launcher = WorkerLauncher(worker.address, key=key)
    # The client waits for procs that reach back at an address which it listens at until it ends.
    with this_host().spawn_procs(launcher=launcher, env=PATHS) as procs:
        procs.initialized.get(30)
    yield launcher
    launcher.close().get(10)


@pytest.fixture
def executing():
    """An actor that launches, on a proc of the native launcher."""
    with this_host().spawn_procs() as procs:
        yield procs.spawn("executing", Executing, {})


def test_procs_of_a_launcher_in_python_are_forked_from_the_one_process_that_it_executes(executing, zygote, module):
    procs, actors = looking(zygote(executing, preload=[module("imported")]), per_host={"n": 16})
    with procs:
        assert set(actors.is_forked.call().get(60).values()) == {True}
        pids, parents = zip(*actors.pids.call().get(60).values(), strict=True)
        assert (len(set(pids)), len(set(parents))) == (16, 1)
        (importer,) = set(actors.of_module.call("imported").get(60).values())
        assert importer not in pids, "it was imported once, and before they were forked"
        (executed,) = executing.names.call_one().get(60)
        assert executed.startswith("zygote-process-")
        assert {status.launcher for status in procs.statuses().values()} == {"zygote@executing"}
        assert [status.pid for status in procs.statuses().values()] == list(pids)


def test_a_forked_proc_is_one_like_any_other(zygote, tmp_path):
    launcher = zygote(Supervising)
    procs, actors = looking(
        launcher, per_host={"n": 3}, env={"OMP_NUM_THREADS": "7", "OWN": "yes"}, cwd=tmp_path, tail_lines=2
    )
    with procs:
        assert set(actors.place.call("OWN").get(60).values()) == {(str(tmp_path), "yes", "7")}
        actors.slice(n=1).say.call_one("one\ntwo\nthree").get(60)
        actors.slice(n=0).end.broadcast(7)
        first = only_exit(procs.slice(n=0))
        assert (first.exit_code, first.signal, first.stdout_tail) == (7, None, [])
        procs.slice(n=1).kill().get(20)
        second = only_exit(procs.slice(n=1))
        assert (second.signal, second.stdout_tail) == (signal.SIGKILL, ["two", "three"])
        assert second.requested is not None
        assert actors.slice(n=2).is_forked.call_one().get(60), "nobody else is touched"
        procs.slice(n=0).respawn().get(60)
        again = procs.slice(n=0).spawn("looking", Looking)
        assert again.is_forked.call_one().get(60)
        assert again.place.call_one("OWN").get(60)[2] == "7"
        procs.slice(n=2).terminate().get(20)
        assert only_exit(procs.slice(n=2)).signal == signal.SIGTERM


def test_a_mesh_that_is_stopped_cleans_up(zygote):
    with this_host().spawn_procs({"n": 2}, launcher=zygote(Supervising)) as procs:
        procs.spawn("cleaning", Cleaning).initialized.get(60)
    assert [exit.stdout_tail for exit in procs.exits().values()] == [["cleaned up"]] * 2


def test_over_a_worker_procs_are_forked_there(zygote, worker, worker_launcher):
    procs, actors = looking(zygote(worker_launcher, preload=["json.tool"]), per_host={"n": 3}, env=PATHS)
    with procs:
        assert set(actors.is_forked.call().get(60).values()) == {True}
        (keeper,) = {parent for _, parent in actors.pids.call().get(60).values()}
        assert zygote_of(parent_of(zygote_of(keeper))) == worker.pid, "below the worker's own keeper"
        actors.slice(n=1).say.call_one("out of there").get(60)
        actors.slice(n=1).end.broadcast(3)
        ended = only_exit(procs.slice(n=1))
        assert (ended.exit_code, ended.stdout_tail) == (3, ["out of there"])
        assert procs.slice(n=0).statuses().item().handle.startswith("zygote-process-")


def test_over_the_native_launcher_there_is_no_process_more(zygote, module):
    for launcher in (native(), None):
        procs, actors = looking(zygote(launcher, preload=[module("imported")]))
        with procs:
            assert actors.is_forked.call_one().get(60)
            assert actors.of_module.call_one("imported").get(60) != actors.pids.call_one().get(60)[0]
            assert procs.statuses().item().launcher == "native"


def test_when_the_zygote_is_killed_each_proc_ends_once_and_says_why_and_the_next_launch_makes_another(zygote):
    launcher = zygote(Supervising)
    followed = Followed(launcher, per_host={"n": 4})
    actors = followed.procs.spawn("looking", Looking)
    pids, parents = zip(*actors.pids.call().get(60).values(), strict=True)
    first = zygote_of(parents[0])
    keepers = {parents[0], parent_of(parents[0])}
    os.kill(first, signal.SIGKILL)
    for exit in followed.exits():
        assert exit.kind == "lost"
        assert "its zygote, zygote-process-" in exit.verdict
        assert "signal 9 (SIGKILL)" in exit.verdict
        assert exit.certificate.launched_in.startswith("zygote-process-")
    until(lambda: all(map(gone, {*pids, *keepers})), "they are gone")
    procs, actors = looking(launcher)
    with procs:
        assert actors.is_forked.call_one().get(60)
        assert zygote_of(actors.pids.call_one().get(60)[1]) != first


def test_one_that_hangs_is_ended_with_what_it_should_have_killed(zygote):
    procs, actors = looking(zygote(Supervising), ready_timeout=60)
    pid, keeper = actors.pids.call_one().get(60)
    process = zygote_of(keeper)
    os.kill(process, signal.SIGSTOP)
    procs.kill()
    ended = only_exit(procs)
    assert (ended.kind, gone(process)) == ("lost", True)
    until(lambda: gone(pid), "it is gone")


def test_on_another_host_the_process_is_one_of_that_host(zygote):
    with hosts_from_launcher(None) as hosts:
        procs = hosts.spawn_procs({"n": 2}, launcher=zygote(Supervising))
        actors = procs.spawn("looking", Looking)
        assert set(actors.is_forked.call().get(60).values()) == {True}
        (keeper,) = {parent for _, parent in actors.pids.call().get(60).values()}
        process = zygote_of(keeper)
        assert {status.launcher for status in procs.statuses().values()} == {"zygote@Supervising"}
        procs.stop().get(20)
    until(lambda: gone(process), "it ends with its host")


def test_a_restart_policy_launches_from_another_zygote(zygote):
    procs, actors = looking(zygote(Supervising), restart="always")
    with procs:
        pid, keeper = actors.pids.call_one().get(60)
        os.kill(zygote_of(keeper), signal.SIGKILL)
        until(lambda: procs.statuses().item().status == "ready" and procs.statuses().item().restarts, "it is back")
        assert procs.spawn("again", Looking).pids.call_one().get(60)[0] != pid


def test_it_ends_when_it_is_closed_and_the_last_proc_has_ended(zygote):
    launcher = zygote(Supervising)
    procs, actors = looking(launcher)
    process = zygote_of(actors.pids.call_one().get(60)[1])
    closed = launcher.close()
    others, more = looking(launcher)
    with others:
        assert zygote_of(more.pids.call_one().get(60)[1]) != process, "it takes nothing any more"
    assert actors.is_forked.call_one().get(60), "what runs goes on"
    assert not closed.done()
    procs.stop().get(20)
    closed.get(20)
    assert gone(process)


@pytest.mark.parametrize(
    "options",
    [
        {"bootstrap_command": ["/bin/sh", "-c", "exit 0"], "readiness": "none"},
        {"fork_server": False},
        {"rlimits": {"core": 0}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_a_fork_cannot_be_given_goes_through_the_launcher_itself(zygote, options):
    with this_host().spawn_procs() as there:
        launcher = there.spawn("confining", Confining, {})
        procs = this_host().spawn_procs(launcher=zygote(launcher, preload=["json.tool"]), **options)
        with procs:
            procs.initialized.get(60)
            assert procs.statuses().item().launcher == "confining"
            if "bootstrap_command" not in options:
                assert not procs.spawn("looking", Looking).is_forked.call_one().get(60)


def test_a_module_that_cannot_be_imported_fails_each_launch_with_its_traceback(zygote, module):
    broken = module("broken", "raise ValueError('not today')\n")
    procs = this_host().spawn_procs({"n": 2}, launcher=zygote(Supervising, preload=[broken]))
    with pytest.raises(
        LaunchFailed, match=r"(?s)ValueError: not today.*the import of broken, which is to be preloaded"
    ):
        procs.initialized.get(60)
    assert {exit.exit_code for exit in procs.wait(30).get().values()} == {1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='left').start()\n",
            "1 threads are left of what preload imports (left)",
        ),
        (
            "import sys, types\nsys.modules['torch'] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))",
            "CUDA is in use after what preload imports (torch.cuda)",
        ),
    ],
    ids=["threads", "CUDA"],
)
def test_what_forks_would_not_have_is_executed_in_the_same_place_and_the_log_says_why(zygote, module, capfd, text, why):
    procs, actors = looking(zygote(Supervising, preload=[module("unfit", text)]), per_host={"n": 2})
    with procs:
        assert set(actors.is_forked.call().get(60).values()) == {False}
        assert len({parent for _, parent in actors.pids.call().get(60).values()}) == 1
    until(lambda: f"procs are executed and not forked: {why}" in capfd.readouterr().err, "the reason is told")


def test_a_zygote_that_cannot_be_launched_fails_what_waits_for_it_with_the_reason(zygote):
    procs = this_host().spawn_procs({"n": 2}, launcher=zygote(Refusing))
    with pytest.raises(LaunchFailed, match=r"zygote@Refusing: (?s:.*)PermissionError: there is no room for it"):
        procs.initialized.get(60)
    assert {exit.kind for exit in procs.wait(30).get().values()} == {"failed"}


def test_forks_share_the_memory_of_what_was_imported(zygote, module):
    large = module("large", "MADE_IN = bytes(range(256)) * (64 << 10)\n")  # 16 MiB
    forked, sharing = looking(zygote(Supervising, preload=[large]), per_host={"n": 4})
    executed, alone = looking(Supervising, per_host={"n": 2}, preload=[large])
    with forked, executed:
        for actors in (sharing, alone):
            actors.is_forked.call().get(60)
        shared = [one["Pss"] for one in sharing.share.call().get(60).values()]
        own = [one["Pss"] for one in alone.share.call().get(60).values()]
        assert max(shared) < min(own) - (8 << 10), (shared, own)


def test_an_actor_has_one_of_its_own_which_ends_with_its_proc():
    with this_host().spawn_procs() as procs:
        spawning = procs.spawn("spawning", Spawning)
        forked, process = spawning.spawn.call_one().get(60)
        assert forked
        assert not gone(process)
        spawning.close.call_one().get(60)
        assert gone(process)
        forked, process = spawning.spawn.call_one().get(60)
        assert forked
    until(lambda: gone(process), "it ends with the proc that has made it")


def test_a_client_that_ends_lets_forks_clean_up_and_leaves_nothing(script, tmp_path):
    source = f"""
        from pathlib import Path
        from launching import Supervising
        from procession.actor import Actor, this_host
        from procession.launchers import Zygote
        class Cleaning(Actor):
            def __init__(self, place):
                self.place = Path(place)
            def __cleanup__(self, reason):
                self.place.touch()
        if __name__ == "__main__":
            procs = this_host().spawn_procs({{"n": 2}}, launcher=Zygote(Supervising))
            for n in range(2):
                procs.slice(n=n).spawn("cleaning", Cleaning, f"{tmp_path}/{{n}}").initialized.get(60)
    """
    script(source, env=PATHS)
    assert (tmp_path / "0").exists()
    assert (tmp_path / "1").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((5,), TypeError, "launcher = 5: has to be None, a spawned launcher actor"),
        ((Looking,), TypeError, "launcher = "),
        ((None, "numpy"), InvalidArgument, 'preload = "numpy": has to be a list of modules'),
        ((None, [7]), InvalidArgument, r"preload\[0\] = 7: has to be the name of a module"),
        ((Supervising, ["ok", "a b"]), InvalidArgument, r"preload\[1\] = \"a b\""),
        ((Supervising, 5), InvalidArgument, "preload = 5: has to be a list of modules"),
    ],
)
def test_what_is_no_launcher_or_no_list_of_modules_is_refused_before_anything_starts(arguments, error, words):
    with pytest.raises(error, match=words):
        Zygote(*arguments)


def test_it_stays_with_the_process_that_has_made_it(zygote):
    import pickle

    with pytest.raises(TypeError, match="belongs to the process that has made it"):
        pickle.dumps(zygote(Supervising))


def test_the_process_of_its_launcher_class_is_the_one_of_that_class(zygote):
    procs, actors = looking(zygote(Supervising))
    with procs:
        keeper = actors.pids.call_one().get(60)[1]
        assert parent_of(zygote_of(keeper)) == pid_of_class(Supervising)

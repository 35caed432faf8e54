"""Procs that are launched from inside of procs: whom they belong to, and what ends them."""

import os
import re
import signal
from pathlib import Path

import pytest

from launching import Supervising, until
from procession import Restart, _host_service, launchers
from procession._owned import LOOK_EVERY
from procession._runtime import runtime
from procession.actor import Actor, ActorError, context, current_rank, endpoint, this_host, this_proc
from procession.errors import AlreadyExists, InvalidArgument, LauncherUnavailable, LaunchFailed, Unsupported

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Worker(Actor):
    @endpoint
    def rank(self):
        return current_rank().rank

    @endpoint
    def pid(self):
        return os.getpid()


class Boss(Actor):
    """Does in its proc what it is told."""

    def __init__(self):
        self.kept = []

    @endpoint
    def do(self, function, *args):
        return function(*args)

    @endpoint
    def keep(self, function, *args):
        self.kept.append(function(*args))
        return self.kept[-1]

    def __supervise__(self, failure):
        return True  # what its procs and actors come to is looked at by the tests themselves

    @endpoint
    def fail_without_answer(self):
        raise ValueError("nobody hears this")

    @endpoint
    def leave(self):
        context().actor_instance.stop()

    def __cleanup__(self, exc):
        for note in self.kept:
            if callable(note):
                note()


class AsyncBoss(Actor):
    @endpoint
    async def do(self, function, *args):
        result = function(*args)
        return await result if hasattr(result, "__await__") else result

    @endpoint
    async def fail_without_answer(self):
        raise ValueError("nobody hears this")


def hire(count=2, **kwargs):
    """Procs with an actor on each, from whoever calls it."""
    procs = this_host().spawn_procs({"x": count}, **kwargs)
    return procs, procs.spawn("worker", Worker)


def hire_programs(command, **kwargs):
    return this_host().spawn_procs(bootstrap_command=["/bin/sh", "-c", command], readiness="none", **kwargs)


@pytest.fixture
def boss():
    with this_host().spawn_procs() as procs:
        yield procs.spawn("boss", Boss)


def requested(exit_):
    return re.sub(r" at \S+:", ":", exit_.requested)


def owner_of(boss):
    return f"its owner, actor {boss._refs[0].actor_id}, ended"


def kill_proc_of(boss):
    os.kill(boss.do.call_one(os.getpid).get(20), signal.SIGKILL)


@pytest.mark.parametrize("cls", [Boss, AsyncBoss])
def test_an_actor_launches_procs_and_whoever_gets_them_can_use_them(cls):
    with this_host().spawn_procs() as procs:
        boss = procs.spawn("boss", cls)
        workers_procs, workers = boss.do.call_one(hire, 3).get(40)
        assert [rank for _, rank in workers.rank.call().get(20).items()] == [0, 1, 2]
        assert workers_procs.initialized.get(20) is True
        pids = [pid for _, pid in workers.pid.call().get(20).items()]
        assert [status.pid for _, status in workers_procs.statuses().items()] == pids
        assert len({os.getpid(), boss.do.call_one(os.getpid).get(20), *pids}) == 5
        more = workers_procs.slice(x=slice(1, 3)).spawn("more", Worker)
        assert [rank for _, rank in more.rank.call().get(20).items()] == [0, 1]
        workers_procs.stop("enough").get(20)
        exits = [exit_ for _, exit_ in workers_procs.wait(20).get().items()]
        assert [exit_.exit_code for exit_ in exits] == [0, 0, 0]
        assert {requested(exit_) for exit_ in exits} == {"stop: enough"}


def use_inside():
    procs, workers = hire()
    assert procs.initialized.get(30) is True
    assert [rank for _, rank in workers.rank.call().get(20).items()] == [0, 1]
    assert [str(status) for _, status in procs.statuses().items()] == ["ready", "ready"]
    assert [exit_ for _, exit_ in procs.exits().items()] == [None, None]
    with pytest.raises(TimeoutError):
        procs.wait(0).get()
    assert procs.why(1).endswith("has not ended: it is ready")
    procs.slice(x=0).kill().get(20)
    first = procs.slice(x=0).wait(20).get().item()
    assert (first.signal, first.rank) == (9, 0)
    assert procs.slice(x=0).wait(0).get().item() == first
    assert "signal 9" in procs.why(0)
    assert [len(one.exits) for _, one in procs.history().items()] == [1, 0]
    procs.slice(x=1).terminate(5).get(20)
    assert procs.wait(20).get().slice(x=1).item().signal == 15
    return "all of it"


def test_a_mesh_does_inside_of_a_proc_what_it_does_in_the_client(boss):
    assert boss.do.call_one(use_inside).get(60) == "all of it"


async def use_on_a_loop():
    async with this_host().spawn_procs({"x": 2}) as procs:
        await procs.initialized
        workers = procs.spawn("worker", Worker)
        assert [rank async for rank in _values(workers.rank.call())] == [0, 1]
        events = procs.events()
        await procs.stop("enough")
        kinds = [event.kind async for event in events]
    return kinds, [exit_.exit_code for _, exit_ in (await procs.wait()).items()]


async def _values(future):
    for _, value in (await future).items():
        yield value


def test_all_of_it_works_on_the_loop_of_an_async_actor():
    with this_host().spawn_procs() as procs:
        kinds, codes = procs.spawn("boss", AsyncBoss).do.call_one(use_on_a_loop).get(60)
    assert kinds.count("exit") == 2
    assert codes == [0, 0]


def with_block():
    with this_host().spawn_procs({"x": 2}) as procs:
        procs.initialized.get(30)
    return procs.wait(20).get()


def test_a_with_block_inside_of_an_actor_stops_its_procs(boss):
    exits = boss.do.call_one(with_block).get(40)
    assert {requested(exit_) for _, exit_ in exits.items()} == {"stop: end of its with block"}


def test_procs_end_when_the_proc_of_their_owner_is_killed(boss):
    procs, workers = boss.do.call_one(hire).get(40)
    workers.rank.call().get(20)
    kill_proc_of(boss)
    exits = [exit_ for _, exit_ in procs.wait(20).get().items()]
    assert {requested(exit_) for exit_ in exits} == {f"host: {owner_of(boss)}"}
    assert [exit_.exit_code for exit_ in exits] == [0, 0]


@pytest.mark.parametrize("cls", [Boss, AsyncBoss])
@pytest.mark.parametrize("how", ["stop", "fail_without_answer"])
def test_procs_end_before_the_actor_that_owns_them_has_ended(cls, how):
    with this_host().spawn_procs() as procs:
        boss, other = procs.spawn("boss", cls), procs.spawn("other", cls)
        mine, workers = boss.do.call_one(hire).get(40)
        others, _ = other.do.call_one(hire).get(40)
        workers.rank.call().get(20)
        if how == "stop":
            boss.stop().get(20)
            assert None not in [exit_ for _, exit_ in mine.exits().items()]
        else:
            boss.fail_without_answer.broadcast()
        exits = [exit_ for _, exit_ in mine.wait(20).get().items()]
        assert {requested(exit_) for exit_ in exits} == {f"stop: {owner_of(boss)}"}
        assert [exit_.exit_code for exit_ in exits] == [0, 0]
        assert [exit_ for _, exit_ in others.exits().items()] == [None, None]


def exits_at_cleanup(path):
    procs, _ = hire(1)
    procs.initialized.get(30)

    def note():
        Path(path).write_text(procs.exits().item(x=0).verdict)

    return note


def test_an_actor_cleans_up_when_its_procs_have_ended(boss, tmp_path):
    boss.keep.broadcast(exits_at_cleanup, str(tmp_path / "verdict"))
    boss.stop().get(40)
    assert (tmp_path / "verdict").read_text().startswith("stopped by us (stop: its owner, actor ")


class Leaver(Actor):
    def __init__(self, path):
        procs, _ = hire(1)
        Path(path).write_text(procs.spawn("worker", Worker).pid.call_one().get(30).__str__())
        raise ValueError("it is never built")


def test_what_an_actor_launched_before_it_failed_to_be_built_ends(boss, tmp_path):
    with this_host().spawn_procs() as procs:
        with pytest.raises(ActorError, match="never built"):
            procs.spawn("leaver", Leaver, str(tmp_path / "pid")).initialized.get(40)
        pid = int((tmp_path / "pid").read_text())
        until(lambda: not Path(f"/proc/{pid}").exists())


def below(levels):
    procs = this_host().spawn_procs()
    boss = procs.spawn("boss", Boss)
    meshes = boss.keep.call_one(below, levels - 1).get(60) if levels > 1 else []
    return [(procs, boss), *meshes]


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_end_of_an_owner_reaches_all_that_was_launched_below_it(boss, how):
    meshes = boss.do.call_one(below, 3).get(60)
    assert len(meshes) == 3
    pids = [one.do.call_one(os.getpid).get(20) for _, one in meshes]
    if how == "killed":
        kill_proc_of(boss)
    else:
        boss.stop().get(40)
    owners = [boss, *(one for _, one in meshes)]
    for (procs, _), owner in zip(meshes, owners, strict=False):
        assert owner_of(owner) in procs.wait(30).get().item().requested
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_proc_in_the_middle_takes_what_is_below_it_along_and_nothing_above(boss):
    (top, _), (middle, middle_boss), (lowest, _) = boss.do.call_one(below, 3).get(60)
    lowest.initialized.get(20)
    kill_proc_of(middle_boss)
    assert middle.wait(20).get().item().signal == 9
    assert requested(lowest.wait(20).get().item()) == f"host: {owner_of(middle_boss)}"
    assert top.exits().item() is None


def spawn_in_setup(path):
    _, workers = hire(1, name="of-the-setup")
    Path(path).write_text(str(workers.pid.call_one().get(30)))


def test_what_is_launched_outside_of_any_actor_belongs_to_the_proc(tmp_path):
    def setup():
        spawn_in_setup(str(tmp_path / "pid"))

    with this_host().spawn_procs(bootstrap=setup) as procs:
        procs.initialized.get(40)
        pid = int((tmp_path / "pid").read_text())
        assert "of-the-setup-0" in runtime().live()
    until(lambda: "of-the-setup-0" not in runtime().live())
    until(lambda: not Path(f"/proc/{pid}").exists())


def hire_programs_that_end(count):
    for _ in range(count):
        procs = hire_programs("exec sleep 1000")
        ended = procs.wait(20)  # asked for while they live: their host remembers none that have ended
        procs.kill()
        ended.get()


def test_an_actor_goes_on_launching_when_its_host_has_forgotten_what_it_launched_before(boss, monkeypatch):
    monkeypatch.setattr(_host_service, "ENDED_KEPT", 0)
    monkeypatch.setattr(_host_service.groups, "_look_at", 0)
    boss.do.call_one(hire_programs_that_end, 2 * LOOK_EVERY).get(60)


CLIENT = """
import os, sys
from procession.actor import Actor, endpoint, this_host

class Boss(Actor):
    @endpoint
    def hire(self):
        self.procs = this_host().spawn_procs({"x": 2})
        return [pid for _, pid in self.procs.spawn("boss", Boss).pid.call().get(30).items()]

    @endpoint
    def pid(self):
        return os.getpid()

if __name__ == "__main__":
    boss = this_host().spawn_procs().spawn("boss", Boss)
    print(*boss.hire.call_one().get(40), boss.pid.call_one().get(20), flush=True)
    END
"""


@pytest.mark.parametrize("end", ["sys.exit(3)", "os.kill(os.getpid(), 9)", "os._exit(3)"])
def test_nothing_is_left_of_any_level_when_the_client_ends(script, end):
    done = script(CLIENT.replace("END", end), check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3, done.stderr
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def names_of(procs):
    return [status.rpartition("@")[0].rpartition(".")[0] for status in procs._procs.proc_ids(procs._bases())]


def hire_two():
    return [hire(1)[0] for _ in range(2)]


def test_meshes_without_a_name_never_collide_whoever_launches_them():
    with this_host().spawn_procs({"x": 2}) as procs, this_host().spawn_procs() as own:
        bosses = procs.spawn("boss", Boss)
        meshes = [mesh for _, two in bosses.do.call(hire_two).get(60).items() for mesh in two]
        names = [name for mesh in (*meshes, own) for name in names_of(mesh)]
        assert len(set(names)) == 5


def test_a_name_that_another_actor_uses_is_refused_as_in_the_client(boss):
    with this_host().spawn_procs() as procs:
        other = procs.spawn("boss", Boss)
        mine, _ = boss.do.call_one(hire, 1).get(40)
        named = boss.do.call_one(named_procs).get(40)
        with pytest.raises(ActorError, match=r"'taken-0' is alive \(incarnation 1\)") as refused:
            other.do.call_one(named_procs).get(40)
        assert isinstance(refused.value.exception, AlreadyExists)
        with pytest.raises(AlreadyExists):
            named_procs()
        named.stop().get(20)
        again = other.do.call_one(named_procs).get(40)
        assert again.statuses().item().status in ("starting", "running", "ready")
        again.initialized.get(20)
        assert mine.exits().item(x=0) is None


def named_procs():
    return this_host().spawn_procs(name="taken")


def hire_named(path):
    procs = this_host().spawn_procs(name="crew", bootstrap_command=["/bin/sh", "-c", SLOW_TO_END], readiness="none")
    procs.initialized.get(30)
    with open(path, "a") as file:
        file.write(f"{procs.statuses().item().pid}\n")
    return procs


SLOW_TO_END = "trap 'sleep 0.7; exit 0' TERM; while :; do sleep 0.05; done"


class Employer(Actor):
    def __init__(self, path):
        self.procs = hire_named(path)

    @endpoint
    def pid(self):
        return os.getpid()


def test_an_owner_that_is_launched_again_uses_the_names_of_what_it_had_launched(tmp_path):
    policy = Restart("always", backoff=(0.0, 0.0), actors="respawn")
    with this_host().spawn_procs(restart=policy) as procs:
        employer = procs.spawn("employer", Employer, str(tmp_path / "pids"))
        first = employer.pid.call_one().get(40)
        os.kill(first, signal.SIGKILL)
        until(lambda: len((tmp_path / "pids").read_text().split()) == 2)
        assert employer.pid.call_one().get(40) != first
        assert runtime().live()["crew-0"] == 2


def refusals(path):
    told = []
    for kwargs in (
        {"per_host": {}},
        {"name": "a/b"},
        {"ready_timeout": -1},
        {"env": {"PROCESSION_X": "1"}},
        {"bootstrap_command": ["bin/x"]},
        {"on_owner_loss": "forget"},
        {"on_owner_loss": "detach", "log_dir": path},
        {"restart": "sometimes"},
        {"bootstrap": 3},
    ):
        try:
            this_host().spawn_procs(**kwargs)
        except InvalidArgument as error:
            told.append(str(error))
    return told


def test_bad_arguments_are_refused_where_the_call_is_made(boss, tmp_path):
    before = runtime().live()
    told = boss.do.call_one(refusals, str(tmp_path)).get(20)
    assert len(told) == 9
    assert told[6] == (
        f'on_owner_loss = "detach": what actor {boss._refs[0].actor_id} spawns belongs to it, and ends with it; let the client '
        "spawn what is to outlive it"
    )
    assert runtime().live().keys() == before.keys()


def test_a_launch_that_fails_is_told_by_initialized_inside_and_outside(boss):
    procs = boss.do.call_one(spawn_missing).get(20)
    with pytest.raises(LaunchFailed, match=r"rank 1: .*no/such/program") as failed:
        procs.initialized.get(20)
    assert failed.value.rank == 1
    assert [exit_.kind for _, exit_ in procs.wait(20).get().items()] == ["signaled", "failed"]
    with pytest.raises(ActorError, match=r"rank 1: .*no/such/program"):
        boss.do.call_one(wait_for_missing).get(20)


def spawn_missing():
    def program(point):
        return ["/no/such/program"] if point.rank else ["/bin/sh", "-c", "kill -9 $$"]

    return this_host().spawn_procs({"x": 2}, bootstrap_command=program, readiness="none")


def wait_for_missing():
    return spawn_missing().initialized.get(20)


def where():
    return os.getcwd()


def test_procs_start_where_the_actor_that_launches_them_is(tmp_path):
    with this_host().spawn_procs(cwd=tmp_path) as procs:
        boss = procs.spawn("boss", Boss)
        inner = boss.do.call_one(spawn_plain).get(20)
        assert inner.spawn("boss", Boss).do.call_one(where).get(30) == str(tmp_path)
        program = boss.do.call_one(hire_programs, "pwd").get(20)
        program.wait(20).get()
        assert list(program.logs()) == [f"[0] {tmp_path}"]


def spawn_plain():
    return this_host().spawn_procs()


def count_of(count):
    procs, workers = hire(count)
    return sum(1 for _ in workers.pid.call().get(120).items()), procs


@pytest.mark.parametrize("count", [50])
def test_fifty_procs_are_launched_from_an_actor_and_nothing_is_left(boss, count):
    answered, procs = boss.do.call_one(count_of, count).get(150)
    assert answered == count
    boss.stop().get(60)
    assert {exit_.exit_code for _, exit_ in procs.wait(1).get().items()} == {0}


class Launching(Supervising):
    pass


def through_class(count):
    procs = this_host().spawn_procs({"x": count}, launcher=Launching)
    return procs, procs.spawn("worker", Worker)


def test_a_launcher_class_that_an_actor_uses_gets_a_process_that_ends_with_the_actors_proc(boss):
    procs, workers = boss.do.call_one(through_class, 2).get(60)
    pids = [pid for _, pid in workers.pid.call().get(30).items()]
    assert [status.handle for _, status in procs.statuses().items()] == [f"process {pid}" for pid in pids]
    launchers = [name for name in runtime().live() if name.startswith("launcher-Launching-")]
    assert len(launchers) == 1
    kill_proc_of(boss)
    exits = [exit_ for _, exit_ in procs.wait(30).get().items()]
    assert {(requested(exit_), exit_.exit_code) for exit_ in exits} == {(f"host: {owner_of(boss)}", 0)}
    until(lambda: not set(launchers) & runtime().live().keys())


def through_actor():
    launcher = this_proc().spawn("launcher", Launching)
    procs = this_host().spawn_procs(launcher=launcher)
    worker = procs.spawn("worker", Worker)
    assert worker.pid.call_one().get(30) == procs.statuses().item().pid
    procs.stop().get(20)
    return procs.exits().item(), launcher


def test_a_launcher_actor_launches_for_the_actor_beside_it(boss):
    exit_, launcher = boss.do.call_one(through_actor).get(60)
    assert (exit_.launcher, exit_.exit_code) == ("launcher", 0)
    launcher.stop().get(20)


def test_an_actor_of_the_client_owns_what_it_launches_too(spawned):
    boss = spawned(Boss)
    procs, workers = boss.do.call_one(hire).get(40)
    workers.rank.call().get(20)
    boss.stop().get(20)
    assert {requested(exit_) for _, exit_ in procs.exits().items()} == {f"stop: {owner_of(boss)}"}


def spawn_and_forget():
    for _ in range(40):
        hire_programs("exit 0").wait(20).get()
    return len(context().actor_instance.owned)


def test_what_has_ended_is_not_remembered_for_the_end_of_its_owner(boss):
    assert boss.do.call_one(spawn_and_forget).get(60) < 32


def test_this_proc_is_ended_through_the_mesh_that_it_was_spawned_in(boss):
    with pytest.raises(ActorError, match="only through the mesh") as refused:
        boss.do.call_one(end_this_proc).get(20)
    assert isinstance(refused.value.exception, Unsupported)


def end_this_proc():
    this_proc().kill()


class Supervisor(Actor):
    def __init__(self):
        self.failures = []

    @endpoint
    def hire(self):
        self.procs, self.workers = hire(1, name="supervised")
        return self.procs, self.workers

    @endpoint
    def told(self):
        return self.failures

    def __supervise__(self, failure):
        self.failures.append(str(failure))
        return True


def test_the_actor_that_launched_a_proc_is_told_of_its_death():
    with this_host().spawn_procs() as procs:
        boss = procs.spawn("boss", Supervisor)
        mine, workers = boss.hire.call_one().get(40)
        os.kill(workers.pid.call().get(20).item(x=0), signal.SIGKILL)
        assert mine.wait(20).get().item(x=0).signal == 9
        until(lambda: boss.told.call_one().get(20))
        assert "signal 9" in boss.told.call_one().get(20)[0]


class Strict(Actor):
    @endpoint
    def do(self, function, *args):
        return function(*args)


def test_an_actor_that_does_not_handle_the_death_of_its_proc_ends_and_takes_the_others_along(failures):
    with this_host().spawn_procs() as procs:
        boss = procs.spawn("boss", Strict)
        mine, workers = boss.do.call_one(hire).get(40)
        first, _ = [pid for _, pid in workers.pid.call().get(20).items()]
        os.kill(first, signal.SIGKILL)
        failure = failures.get(timeout=30)
        assert failure.mesh is not None
        ends = mine.wait(30).get()
        assert ends.slice(x=0).item().signal == 9
        assert requested(ends.slice(x=1).item()) == f"stop: {owner_of(boss)}"


class Unbuildable(Launching):
    def __init__(self, params=None):
        raise ValueError("it cannot be built")


def register(cls):
    launchers.register(cls).get(30)


def test_a_launcher_class_is_registered_inside_and_says_what_is_wrong_with_it(boss):
    boss.do.call_one(register, Launching).get(40)
    with pytest.raises(ActorError, match="it cannot be built") as refused:
        boss.do.call_one(register, Unbuildable).get(40)
    assert isinstance(refused.value.exception, LauncherUnavailable)


def through(launcher):
    procs = this_host().spawn_procs(launcher=launcher)
    return procs, procs.spawn("worker", Worker)


def test_a_launcher_actor_of_the_client_launches_for_an_actor_elsewhere(boss, spawned):
    launcher = spawned(Launching)
    procs, worker = boss.do.call_one(through, launcher).get(40)
    pid = worker.pid.call_one().get(30)
    assert launcher.known.call_one().get(20)[1] == os.getpid()
    assert procs.statuses().item().handle == f"process {pid}"
    boss.stop().get(30)
    assert requested(procs.wait(20).get().item()) == f"stop: {owner_of(boss)}"


def test_two_actors_launch_at_once_and_each_ends_its_own():
    with this_host().spawn_procs({"x": 2}) as procs:
        bosses = procs.spawn("boss", Boss)
        (one, _), (other, workers) = [mesh for _, mesh in bosses.do.call(hire).get(60).items()]
        bosses.slice(x=0).stop().get(30)
        assert None not in [exit_ for _, exit_ in one.exits().items()]
        assert [rank for _, rank in workers.rank.call().get(20).items()] == [0, 1]
        assert [exit_ for _, exit_ in other.exits().items()] == [None, None]


STOPPED = """
import os, signal, time
from procession import config
from procession._runtime import runtime
from procession.actor import Actor, endpoint, this_host

class Boss(Actor):
    @endpoint
    def spawn_while_stopped(self, client):
        config.HOST_SECONDS = 0.3
        os.kill(client, signal.SIGSTOP)
        try:
            return this_host().spawn_procs(name="late")
        except TimeoutError as error:
            return str(error)
        finally:
            os.kill(client, signal.SIGCONT)

    @endpoint
    def spawn(self):
        config.HOST_SECONDS = 30
        return this_host().spawn_procs(name="next")

if __name__ == "__main__":
    boss = this_host().spawn_procs().spawn("boss", Boss)
    print(boss.spawn_while_stopped.call_one(os.getpid()).get(20))
    boss.spawn.call_one().get(20)
    end = time.monotonic() + 20
    while "late-0" in runtime().live() and time.monotonic() < end:  # it may have begun right when it went on
        time.sleep(0.01)
    print(sorted(name for name in runtime().live() if name in ("late-0", "next-0")))
"""


def test_a_launch_that_a_stopped_host_has_not_begun_with_fails_and_nothing_of_it_is_left(script):
    told, live = script(STOPPED).stdout.splitlines()
    assert "has not answered spawn within 0.3 s: its process is stopped" in told
    assert live == "['next-0']"

"""Failures of actors: who is told of them, once, and what becomes of who handles none."""

import asyncio
import os
import re
import signal
import sys
import threading

import pytest

from procession._agent import _actors
from procession._watcher import watcher
from procession.actor import Actor, MeshFailure, SupervisionError, endpoint, this_host, this_proc


class Fragile(Actor):
    """Fails in the ways that there are."""

    def __init__(self, built=True):
        if not built:
            raise ValueError("it cannot be built")

    @endpoint
    async def pid(self):
        return os.getpid()

    @endpoint
    async def fail(self, text="broken"):
        raise RuntimeError(text)

    @endpoint
    async def exit(self, code):
        os._exit(code)


class Owner(Actor):
    """Spawns, and handles as it was told; each failure that it is told of goes into `told`."""

    def __init__(self, handles):
        self.handles = handles
        self.told = []
        self.news = asyncio.Event()
        self.waits = asyncio.Event()

    @endpoint
    async def spawn(self, procs, *args):
        self.mesh = procs.spawn("fragile", Fragile, *args)
        if not args:
            await self.mesh.initialized
        return self.mesh

    async def __supervise__(self, failure):
        self.told.append(failure)
        self.news.set()
        if isinstance(self.handles, Exception):
            raise self.handles
        return self.handles

    @endpoint
    async def failures(self, count):
        while len(self.told) < count:
            self.news.clear()
            await self.news.wait()
        return self.told


class SyncOwner(Actor):
    def __init__(self):
        self.told = []

    @endpoint
    def spawn(self, procs):
        self.mesh = procs.spawn("fragile", Fragile)
        self.mesh.initialized.get(20)
        return self.mesh

    def __supervise__(self, failure):
        self.told.append(failure.rank)
        return True

    @endpoint
    def failed_ranks(self):
        return self.told

    @endpoint
    def wait_for_its_end_within_this_message(self):
        """Until its mesh has failed, which only the next message may find handled."""
        self.mesh.slice(gpus=0).exit.broadcast(3)
        ended(self.mesh.slice(gpus=0))
        return self.told[:]


@pytest.fixture
def procs():
    with this_host().spawn_procs(per_host={"gpus": 3}) as procs:
        procs.initialized.get(30)
        yield procs


def ended(mesh):
    """How its actors ended; waits for that."""
    while True:
        try:
            mesh.pid.call().get(20)
        except SupervisionError as error:
            return str(error)


def broadcast_failure(mesh, rank, *args):
    mesh.slice(gpus=rank).fail.broadcast(*args)


def test_the_hook_is_told_which_actor_failed_and_what_it_raised(failures, procs):
    mesh = procs.spawn("fragile", Fragile)
    broadcast_failure(mesh, 1, "this was it")
    failure = failures.get(timeout=20)
    assert isinstance(failure, MeshFailure)
    assert (failure.mesh_name, failure.rank, failure.kind) == ("fragile", 1, "actor")
    assert failure.exception_type == "builtins.RuntimeError"
    assert "this was it" in failure.message
    assert "in fail" in failure.traceback
    assert failure.actor_id == mesh._refs[1].actor_id
    assert failure.actor_id.startswith(failure.proc_id + "/")
    assert dict(failure.point) == {"gpus": 1}
    assert "this was it" in failure.report()
    assert "fragile{'gpus': 1/3}" in str(failure)
    assert (failure.exit, failure.exit_kind, failure.signal, failure.exit_code) == (None, None, None, None)
    assert len(mesh.slice(gpus=slice(0, 3, 2)).pid.call().get(20)) == 2, "the others go on"


def test_an_exception_that_reaches_its_caller_is_no_failure(failures, procs):
    mesh = procs.spawn("fragile", Fragile)
    with pytest.raises(Exception, match="told"):
        mesh.slice(gpus=0).fail.call("told").get(20)
    assert len(mesh.pid.call().get(20)) == 3
    assert failures.empty()


def test_a_proc_that_ends_by_itself_fails_each_of_its_actors_with_its_exit(failures, procs):
    first, second = (procs.spawn(name, Fragile) for name in ("first", "second"))
    pid = first.slice(gpus=2).pid.call_one().get(20)
    second.initialized.get(20)
    os.kill(pid, signal.SIGKILL)
    told = sorted((failures.get(timeout=20) for _ in range(2)), key=lambda failure: failure.mesh_name)
    assert [(one.mesh_name, one.rank, one.kind) for one in told] == [("first", 2, "proc"), ("second", 2, "proc")]
    for failure in told:
        assert (failure.exit_kind, failure.signal) == ("signaled", signal.SIGKILL)
        assert failure.verdict == failure.exit.verdict
        assert failure.verdict in failure.message
    first.slice(gpus=0).exit.broadcast(7)
    for _ in range(2):
        failure = failures.get(timeout=20)
        assert (failure.rank, failure.exit_kind, failure.exit_code) == (0, "exited", 7)
    procs.kill().get(20)
    procs.wait(20).get()
    assert failures.empty(), "what was asked for is no failure"


def test_what_is_stopped_terminated_or_killed_by_us_is_no_failure(failures, procs):
    mesh = procs.spawn("fragile", Fragile)
    mesh.initialized.get(20)
    mesh.slice(gpus=0).stop().get(20)
    procs.slice(gpus=1).terminate().get(20)
    procs.slice(gpus=2).kill().get(20)
    procs.stop().get(20)
    assert failures.empty()


def test_an_actor_that_cannot_be_built_is_a_failure_of_each_rank(failures, procs):
    mesh = procs.spawn("fragile", Fragile, False)
    with pytest.raises(Exception, match="cannot be built"):
        mesh.initialized.get(20)
    told = [failures.get(timeout=20) for _ in range(3)]
    assert sorted(failure.rank for failure in told) == [0, 1, 2]
    assert {failure.exception_type for failure in told} == {"builtins.ValueError"}


def test_actors_of_the_client_itself_fail_like_others(failures):
    mesh = this_proc().spawn("fragile", Fragile)
    mesh.fail.broadcast("here")
    failure = failures.get(timeout=20)
    assert (failure.rank, failure.kind, failure.mesh_name) == (0, "actor", "fragile")
    assert "here" in failure.traceback


def test_an_owner_handles_failures_of_its_mesh_once_for_each_rank_and_lives(failures, procs):
    owner = procs.slice(gpus=0).spawn("owner", Owner, True)
    mesh = owner.spawn.call_one(procs).get(20)
    broadcast_failure(mesh, 1)
    broadcast_failure(mesh, 1)
    told = owner.failures.call_one(1).get(20)
    mesh.slice(gpus=2).exit.broadcast(0)
    told = owner.failures.call_one(2).get(20)
    assert [(one.rank, one.kind) for one in told] == [(1, "actor"), (2, "proc")]
    assert told[0].exception_type == "builtins.RuntimeError"
    assert len(mesh.slice(gpus=0).pid.call().get(20)) == 1
    assert failures.empty()


@pytest.mark.parametrize("handles", [False, None, KeyError("it raises")], ids=["false", "none", "raises"])
def test_an_owner_that_does_not_handle_a_failure_fails_and_takes_its_mesh_along(failures, procs, handles):
    owner = procs.slice(gpus=0).spawn("owner", Owner, handles)
    mesh = owner.spawn.call_one(procs).get(20)
    broadcast_failure(mesh, 1)
    failure = failures.get(timeout=20)
    assert (failure.mesh_name, failure.kind, failure.rank) == ("owner", "actor", 0)
    expected = "builtins.KeyError" if isinstance(handles, Exception) else "procession.errors.SupervisionError"
    assert failure.exception_type == expected
    assert (failure.cause.mesh_name, failure.cause.rank) == ("fragile", 1)
    assert "broken" in failure.report()
    with pytest.raises(SupervisionError, match="failed"):
        owner.failures.call_one(1).get(20)
    with pytest.raises(SupervisionError, match="its owner"):
        mesh.slice(gpus=2).pid.call().get(20)
    assert failures.empty()


def test_a_failure_goes_up_from_owner_to_owner_until_one_handles_it(failures, procs):
    class Top(Owner):
        @endpoint
        async def spawn(self, procs):
            self.middle = procs.slice(gpus=1).spawn("middle", Owner, False)
            return await self.middle.spawn.call_one(procs)

    top = procs.slice(gpus=0).spawn("top", Top, True)
    mesh = top.spawn.call_one(procs).get(20)
    broadcast_failure(mesh, 2)
    (failure,) = top.failures.call_one(1).get(20)
    assert (failure.mesh_name, failure.cause.mesh_name, failure.cause.rank) == ("middle", "fragile", 2)
    assert failures.empty()


def test_what_an_actor_has_spawned_ends_with_it_before_its_cleanup_and_with_its_proc(failures, procs):
    class Tidy(Owner):
        async def __cleanup__(self, exc):
            try:
                await self.mesh.pid.call()
            except SupervisionError as error:
                print(f"at cleanup: {error}", file=sys.stderr, flush=True)

    tidy = procs.slice(gpus=0).spawn("tidy", Tidy, True)
    mesh = tidy.spawn.call_one(procs.slice(gpus=slice(1, 3))).get(20)
    tidy.stop().get(20)
    with pytest.raises(SupervisionError, match="its owner"):
        mesh.pid.call().get(20)
    owner = procs.slice(gpus=0).spawn("owner", Owner, True)
    mesh = owner.spawn.call_one(procs.slice(gpus=slice(1, 3))).get(20)
    procs.slice(gpus=0).kill().get(20)
    assert "its owner" in ended(mesh)
    assert "at cleanup: " in "\n".join(procs.slice(gpus=0).wait(20).get().item().stderr_tail)
    assert failures.empty()


def test_a_sync_owner_handles_failures_between_its_messages(failures, procs):
    owner = procs.slice(gpus=1).spawn("owner", SyncOwner)
    mesh = owner.spawn.call_one(procs).get(20)
    assert owner.wait_for_its_end_within_this_message.call_one().get(20) == []
    broadcast_failure(mesh, 2)
    ended(mesh.slice(gpus=2))
    while owner.failed_ranks.call_one().get(20) != [0, 2]:
        pass
    assert failures.empty()


def test_supervision_may_await_and_messages_are_handled_meanwhile(procs):
    class Asks(Owner):
        async def __supervise__(self, failure):
            self.told.append((failure.rank, len(await self.mesh.slice(gpus=0).pid.call())))
            self.news.set()
            await self.waits.wait()
            return True

        @endpoint
        async def go_on(self):
            self.waits.set()

    owner = procs.slice(gpus=0).spawn("owner", Asks, True)
    mesh = owner.spawn.call_one(procs).get(20)
    broadcast_failure(mesh, 1)
    assert owner.failures.call_one(1).get(20) == [(1, 1)]
    broadcast_failure(mesh, 2)
    owner.go_on.call_one().get(20)
    assert owner.failures.call_one(2).get(20) == [(1, 1), (2, 1)], "one after the other"


def test_actors_that_are_built_again_fail_when_their_procs_are_given_up(failures):
    from procession import Restart

    policy = Restart("on_failure", intensity=1, period=60, backoff=(0.01, 0.01), actors="respawn")
    with this_host().spawn_procs(restart=policy) as procs:
        mesh = procs.spawn("fragile", Fragile)
        first = mesh.pid.call_one().get(20)
        os.kill(first, signal.SIGKILL)
        second = None
        while second in (None, first):
            try:
                second = mesh.pid.call_one().get(20)
            except SupervisionError:
                continue  # it was on its way to the one that died
        assert failures.empty()
        os.kill(second, signal.SIGKILL)
        failure = failures.get(timeout=20)
        assert (failure.kind, failure.signal) == ("proc", signal.SIGKILL)


class Nesting(Actor):
    @endpoint
    def fail_of(self, folder):
        """Of an actor whose class the client cannot have."""
        if folder is None:
            lock = threading.Lock()

            class Inner(Actor):
                def __init__(self):
                    with lock:
                        raise ValueError("from within")
        else:
            sys.path.append(folder)
            from only_there import Inner
        this_proc().spawn("inner", Inner)


@pytest.mark.parametrize("of", ["a class that cannot be sent", "a module that is not found here"])
def test_an_owner_is_told_of_a_failure_whose_cause_it_cannot_be_given(failures, procs, tmp_path, of):
    (tmp_path / "only_there.py").write_text(
        "from procession.actor import Actor\n"
        "class Inner(Actor):\n"
        "    def __init__(self):\n"
        "        raise ValueError('from within')\n"
    )
    nesting = procs.slice(gpus=0).spawn("nesting", Nesting)
    nesting.fail_of.call_one(str(tmp_path) if "module" in of else None).get(20)
    failure = failures.get(timeout=20)
    assert (failure.mesh_name, failure.kind, failure.cause) == ("nesting", "actor", None)
    assert "did not handle a failure of the mesh inner" in failure.message
    assert "in __init__" in failure.report().partition("because it did not handle another failure:")[2]


def test_a_failure_is_told_also_when_its_proc_has_been_launched_again_meanwhile(failures, procs):
    one = procs.slice(gpus=1)
    mesh = one.spawn("fragile", Fragile)
    mesh.initialized.get(20)
    go_on = threading.Event()
    (handle,) = one._procs.handles([1])
    watcher.when_done(handle.ready(), go_on.wait)  # so that it looks only then
    mesh.exit.broadcast(7)
    assert one.wait(20).get().item().exit_code == 7
    one.respawn().get(20)
    go_on.set()
    failure = failures.get(timeout=20)
    assert (failure.kind, failure.exit_code, failure.exit.incarnation) == ("proc", 7, 1)


def watched():
    return len(watcher._waiting)


class Hires(Owner):
    @endpoint
    async def hire_and_stop(self, procs):
        mesh = procs.spawn("fragile", Fragile)
        await mesh.initialized
        await mesh.stop()

    @endpoint
    async def watched_by(self):
        (actor,) = [one for name, one in _actors.items() if name.startswith("hires-")]
        return len(actor._watchers)


def test_actors_that_have_ended_leave_nothing_with_their_owner_or_in_their_proc(procs):
    class Probe(Actor):
        @endpoint
        def watched(self):
            return watched()

    probe = procs.slice(gpus=1).spawn("probe", Probe)
    hires = procs.slice(gpus=0).spawn("hires", Hires, True)
    counts = set()
    for _ in range(5):
        hires.hire_and_stop.call_one(procs).get(20)
        counts.add((probe.watched.call_one().get(20), hires.watched_by.call_one().get(20)))
    assert len(counts) == 1, counts


PROGRAM = """
    import asyncio, atexit, signal, sys, threading, time
    import procession.actor
    from procession.actor import Actor, endpoint, this_host, this_proc

    class Fragile(Actor):
        @endpoint
        async def fail(self):
            raise RuntimeError("nobody handles this")
        @endpoint
        async def hang(self):
            await asyncio.sleep(100)

    def blocked_in_sleep(mesh):
        time.sleep(100)

    def blocked_in_get(mesh):
        mesh.slice(gpus=1).hang.call_one().get()

    def blocked_in_a_loop(mesh):
        async def main():
            await mesh.slice(gpus=1).hang.call_one()
        asyncio.run(main())

    def busy(mesh):
        while True:
            pass

    def cleaning_up(mesh):
        others = [this_proc().spawn("fragile", Fragile) for _ in range(2)]
        served = [thread for thread in threading.enumerate() if thread.name.startswith("procession fragile-")]
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            for other in others:
                other.fail.broadcast()
            for thread in served:
                thread.join(20)  # it tells of its failure at its end
            print("cleaned up", flush=True)
            raise

    def stubborn(mesh):
        while True:
            try:
                time.sleep(100)
            except KeyboardInterrupt:
                print("interrupted", flush=True)

    def in_a_session_of_somebodys(mesh):
        sys.ps1 = "> "
        mesh.slice(gpus=1).fail.broadcast()
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            print("only this line ended")

    if __name__ == "__main__":
        atexit.register(print, "exit handlers ran")
        if "ignored" in sys.argv:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        def hook(failure):
            if "exits" in sys.argv:
                raise SystemExit(5)
            raise ValueError("the hook is broken")
        if "exits" in sys.argv or "raises" in sys.argv:
            procession.actor.unhandled_fault_hook = hook
        procs = this_host().spawn_procs(per_host={"gpus": 2})
        mesh = procs.spawn("fragile", Fragile)
        mesh.initialized.get()
        if sys.argv[1] != "in_a_session_of_somebodys":
            mesh.slice(gpus=0).fail.broadcast()
        globals()[sys.argv[1]](mesh)
"""


@pytest.mark.parametrize("blocked", ["blocked_in_sleep", "blocked_in_get", "blocked_in_a_loop", "busy"])
def test_a_failure_that_nobody_handles_ends_the_client_with_its_report(script, blocked):
    done = script(PROGRAM, blocked, check=False)
    assert done.returncode == 1
    assert "exit handlers ran" in done.stdout
    assert "nobody handles this" in done.stderr
    assert "in fail" in done.stderr
    assert "KeyboardInterrupt" not in done.stderr


def test_what_a_client_does_at_its_end_is_not_interrupted_by_further_failures(script):
    done = script(PROGRAM, "cleaning_up", check=False)
    assert done.returncode == 1
    assert "cleaned up" in done.stdout
    assert done.stderr.count("a failure was not handled") == 3


def test_the_client_ends_also_where_interrupts_are_ignored(script):
    done = script(PROGRAM, "busy", "ignored", check=False)
    assert done.returncode == 1
    assert "exit handlers ran" in done.stdout
    assert "nobody handles this" in done.stderr


def test_a_main_thread_that_does_not_end_is_not_waited_for_for_ever(script):
    done = script(PROGRAM, "stubborn", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("interrupted\n")
    assert "exit handlers ran" in done.stdout
    assert "the main thread has not ended within 10 s" in done.stderr


def test_in_an_interactive_session_a_failure_ends_what_runs_and_no_more(script):
    done = script(PROGRAM, "in_a_session_of_somebodys")
    assert done.stdout == "only this line ended\nexit handlers ran\n"
    assert "nobody handles this" in done.stderr


class Built(Actor):
    """Fails of what somebody else says, which is a call's traceback, or of lines of its own."""

    def __init__(self, mesh):
        if mesh is None:
            raise ValueError("the first line\nand another")
        mesh.slice(gpus=0).fail.call_one("of another").get(20)

    @endpoint
    def echo(self, value):
        return value


def test_a_failure_is_one_line_and_its_report_has_the_rest(failures, procs):
    mesh = procs.spawn("fragile", Fragile)
    for argument, said in (
        (mesh, "Actor call fragile.fail failed. RuntimeError: of another"),
        (None, "the first line …"),
    ):
        built = this_proc().spawn("built", Built, argument)
        failure = failures.get(timeout=20)
        assert str(failure).endswith(said), str(failure)
        assert "\n" not in str(failure)
        assert "in __init__" in failure.report()
        with pytest.raises(SupervisionError, match=re.escape(said)):
            built.echo.call_one(1).get(10)


class First(Actor):
    @endpoint
    def fail_what_the_proc_has_spawned(self):
        sys.modules[__name__].of_the_proc.fail.broadcast()


def spawn_in_the_proc():
    sys.modules[__name__].of_the_proc = this_proc().spawn("fragile", Fragile)


def test_a_failure_that_nobody_handles_in_a_launched_proc_ends_it_at_once_and_as_no_failure_of_its_actors(failures):
    with this_host().spawn_procs(bootstrap=spawn_in_the_proc) as procs:
        first = procs.spawn("first", First)
        first.initialized.get(20)
        first.fail_what_the_proc_has_spawned.broadcast()
        end = procs.wait(20).get().item()
        assert end.exit_code == 1
        said = "\n".join(end.stderr_tail)
        assert "has failed: RuntimeError: broken" in said
        assert "has not ended within" not in said
        failure = failures.get(timeout=20)
        assert (failure.mesh_name, failure.kind, failure.exit_code) == ("first", "proc", 1)


NOTEBOOK = """
    from jupyter_client.manager import KernelManager

    DEFINED = '''
    import threading, time
    from procession.actor import Actor, endpoint, this_host

    class Fragile(Actor):
        @endpoint
        def fail(self):
            raise RuntimeError("nobody handles this")
        @endpoint
        def echo(self, value):
            return value

    mesh = this_host().spawn_procs(per_host={"gpus": 2}).spawn("fragile", Fragile)
    mesh.initialized.get()
    mesh.slice(gpus=0).fail.broadcast()
    '''

    manager = KernelManager(transport="ipc")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=40)
    try:
        client.execute(DEFINED)
        said = ""
        while "nobody handles this" not in said:  # the kernel is idle, or about to be
            content = client.get_iopub_msg(timeout=40)["content"]
            assert content.get("ename") in (None, "KeyboardInterrupt"), content
            said += content.get("text", "")
        shown = []
        def show(message):
            content = message["content"]
            shown.extend(content[key].strip() for key in ("text", "ename") if content.get(key))
        client.execute_interactive("print(mesh.slice(gpus=1).echo.call_one(42).get())", timeout=40, output_hook=show)
        client.execute_interactive(
            "mesh.slice(gpus=1).fail.broadcast(); time.sleep(30); print('not interrupted')", timeout=40, output_hook=show
        )
        print(shown[0], shown[-1])  # what is between them is the report
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
"""


def test_a_failure_ends_the_cell_of_a_notebook_and_never_its_kernel(script):
    assert script(NOTEBOOK).stdout == "42 KeyboardInterrupt\n"


def test_a_hook_decides_how_the_client_ends(script):
    assert script(PROGRAM, "blocked_in_sleep", "exits", check=False).returncode == 5
    done = script(PROGRAM, "blocked_in_sleep", "raises", check=False)
    assert done.returncode == 1
    assert "the hook is broken" in done.stderr
    assert "nobody handles this" in done.stderr

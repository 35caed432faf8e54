"""Procs on several hosts, each of which is a process of its own: one mesh, one session."""

import asyncio
import os
import signal
import threading

import pytest

from launching import Supervising, gone, parent_of, until
from procession import Restart, hosts_from_launcher
from procession.actor import (
    Actor,
    Channel,
    ProcMesh,
    SupervisionError,
    context,
    current_rank,
    endpoint,
    this_host,
    this_proc,
)
from procession.errors import AlreadyExists, InvalidArgument, LaunchFailed, Unsupported, WrongContext


class Node(Actor):
    def __init__(self):
        self.kept = []

    @endpoint
    def where(self):
        return current_rank().rank, os.getpid(), os.getppid()

    @endpoint
    def do(self, function, *args):
        return function(*args)

    @endpoint
    def keep(self, function, *args):
        self.kept.append(function(*args))
        return self.kept[-1]

    @endpoint(explicit_response_port=True)
    def answer_later(self, port):
        self.kept.append(port)

    @endpoint
    def hand_on(self, other):
        other.take.call_one(self.kept.pop()).get()

    @endpoint
    def take(self, port):
        self.kept.append(port)

    @endpoint
    def answer(self, value):
        self.kept.pop().send(value)

    @endpoint
    def hang(self):
        threading.Event().wait()

    @endpoint
    def end(self, code):
        os._exit(code)


@pytest.fixture(scope="module")
def hosts():
    with hosts_from_launcher(None, 2) as hosts:
        hosts.initialized.get(30)
        yield hosts


@pytest.fixture(scope="module")
def procs(hosts):
    with hosts.spawn_procs({"gpus": 2}) as procs:
        procs.initialized.get(30)
        yield procs


@pytest.fixture
def two():
    """Two hosts that a test may do away with."""
    hosts = hosts_from_launcher(None, 2)
    hosts.initialized.get(30)
    yield hosts
    hosts.stop().get(30)


def sh(hosts, command, *args, **kwargs):
    return hosts.spawn_procs(*args, bootstrap_command=["/bin/sh", "-c", command], readiness="none", **kwargs)


def pids(hosts):
    return [status.pid for status in hosts._hosts.statuses().values()]


def test_the_procs_of_all_hosts_are_one_mesh_in_the_order_of_their_ranks(hosts, procs, spawned):
    assert procs.sizes == {"hosts": 2, "gpus": 2}
    found = spawned(Node, procs=procs).where.call().get(20)
    assert [rank for rank, _, _ in found.values()] == [0, 1, 2, 3]
    parents = [parent for _, _, parent in found.values()]
    assert parents[0] == parents[1] != parents[2] == parents[3]  # the keeper of each host
    assert {status.status for status in procs.statuses().values()} == {"ready"}
    assert [status.pid for status in procs.statuses().values()] == [pid for _, pid, _ in found.values()]


def test_slices_of_hosts_and_of_procs_on_hosts_mean_the_same_machines(hosts, procs):
    assert procs.host_mesh.extent == hosts.extent
    assert procs.rename(gpus="cards").slice(cards=1, hosts=1).host_mesh._nodes() == hosts._nodes()[1:]
    with pytest.raises(Unsupported, match="flattened"):
        assert procs.flatten("all").host_mesh
    assert procs.slice(hosts=1).host_mesh._nodes() == hosts.slice(hosts=1)._nodes()
    assert procs.slice(gpus=0).host_mesh._nodes() == hosts._nodes()
    with sh(hosts.slice(hosts=1), "exec sleep 300", {"x": 2}) as more:
        assert more.sizes == {"x": 2}
        more.initialized.get(20)
        assert more.host_mesh._nodes() == hosts.slice(hosts=1)._nodes()


def call_others(others):
    return [rank for rank, _, _ in others.where.call().get(20).values()]


def test_actors_on_different_hosts_call_each_other_and_the_client(procs, spawned):
    nodes, mine, askers = spawned(Node, procs=procs), spawned(Node), spawned(Node, procs=procs)
    for rank in (0, 3):
        one = askers.flatten("all").slice(all=rank)
        assert one.do.call_one(call_others, nodes).get(30) == [0, 1, 2, 3]
        assert one.do.call_one(call_others, mine).get(30) == [0]
    assert mine.do.call_one(call_others, nodes).get(30) == [0, 1, 2, 3]


def test_a_port_that_is_handed_from_host_to_host_is_answered_by_its_last_holder(procs, spawned):
    nodes = spawned(Node, procs=procs)
    first, second = nodes.slice(hosts=0, gpus=0), nodes.slice(hosts=1, gpus=0)
    answer = first.answer_later.call_one()
    first.hand_on.call_one(second).get(20)
    second.answer.call_one("from the other host").get(20)
    assert answer.get(20) == "from the other host"


def send_through(port, values):
    for value in values:
        port.send(value)


def test_values_through_a_port_keep_their_order_between_hosts(procs, spawned):
    nodes = spawned(Node, procs=procs)
    port, receiver = Channel.open()
    nodes.slice(hosts=1, gpus=1).do.call_one(send_through, port, list(range(500))).get(20)
    assert [receiver.recv().get(20) for _ in range(500)] == list(range(500))


def test_how_a_proc_on_a_host_has_ended_is_told_as_it_was(hosts, failures):
    with hosts.spawn_procs({"gpus": 2}) as procs:
        nodes = procs.spawn("node", Node)
        waiting = nodes.slice(hosts=0, gpus=1).hang.call_one()
        nodes.slice(hosts=0, gpus=0).end.broadcast(3)
        os.kill(nodes.slice(hosts=1, gpus=1).where.call_one().get(20)[1], signal.SIGKILL)
        exits = [procs.slice(hosts=0, gpus=0).wait(20).get().item(), procs.slice(hosts=1, gpus=1).wait(20).get().item()]
        assert [(one.rank, one.kind, one.exit_code, one.signal) for one in exits] == [
            (0, "exited", 3, None),
            (3, "signaled", None, 9),
        ]
        assert [one is None for one in procs.exits().values()] == [False, True, True, False]
        told = sorted((failures.get(timeout=20) for _ in range(2)), key=lambda failure: failure.rank)
        assert [(one.rank, one.exit_code, one.signal) for one in told] == [(0, 3, None), (3, None, 9)]
        assert not waiting.done()
        with pytest.raises(SupervisionError, match="exit code 3"):
            nodes.slice(hosts=0, gpus=0).where.call_one().get(20)
        procs.kill().get(20)  # one hangs


def test_when_a_host_is_lost_its_procs_are_and_those_of_the_others_go_on(two, failures):
    procs = two.spawn_procs({"gpus": 2})
    nodes = procs.spawn("node", Node)
    there = [pid for _, pid, _ in nodes.slice(hosts=0).where.call().get(20).values()]
    procs.slice(hosts=0, gpus=1)
    nodes.slice(hosts=0, gpus=1).end.broadcast(7)
    until(lambda: procs._procs._ends[1].done(), "the first end is told")
    waiting = [nodes.slice(hosts=0, gpus=0).hang.call_one(), nodes.slice(hosts=1, gpus=0).hang.call_one()]
    ended = procs.slice(hosts=0).wait()
    os.kill(pids(two)[0], signal.SIGKILL)
    with pytest.raises(SupervisionError, match=r"HostLost: its host .* has ended: .*signal 9"):
        waiting[0].get(20)
    for exits in (ended.get(20), procs.slice(hosts=0).exits()):
        lost, before = exits.values()
        assert (lost.kind, lost.rank, lost.incarnation) == ("lost", 0, 1)
        assert lost.verdict.startswith("host lost: ")
        assert "signal 9 (SIGKILL), not requested by us" in lost.failed_reason
        assert (before.kind, before.exit_code) == ("exited", 7)  # it had ended before
    assert [status.status for status in procs.statuses().values()] == ["lost", "exited", "ready", "ready"]
    assert sorted(failures.get(timeout=20).rank for _ in range(2)) == [0, 1]
    for pid in there:
        until(lambda pid=pid: gone(pid), "what the host had launched is gone")
    assert not waiting[1].done()
    assert nodes.slice(hosts=1, gpus=1).where.call_one().get(20)[0] == 0
    procs.slice(hosts=0).stop().get(20)  # what is lost is stopped
    with pytest.raises(SupervisionError, match="signal 9"):
        procs.slice(hosts=0).respawn().get(20)
    assert next(iter(two.exits().values())).signal == 9
    procs.slice(hosts=1).kill().get(20)  # one hangs


class Tidy(Actor):
    def __init__(self, port):
        self.port = port

    @endpoint
    def ready(self):
        return True

    def __cleanup__(self, error):
        self.port.send((current_rank().rank, error))


def test_hosts_that_are_stopped_let_their_procs_clean_up_and_tell_how_they_ended(two, failures):
    procs = two.spawn_procs({"gpus": 2})
    port, receiver = Channel.open()
    procs.spawn("tidy", Tidy, port).ready.call().get(20)
    two.stop("enough").get(30)
    assert sorted(receiver.recv().get(5)[0] for _ in range(4)) == [0, 1, 2, 3]
    for exit_ in procs.exits().values():
        assert (exit_.kind, exit_.exit_code) == ("exited", 0)
        assert "enough" in exit_.requested
    assert [exit_.exit_code for exit_ in two.exits().values()] == [0, 0]
    assert failures.empty()
    with pytest.raises(SupervisionError, match="enough"):
        two.spawn_procs()


def test_the_end_of_a_client_is_that_of_its_hosts_and_of_all_that_they_have_launched(script):
    done = script(
        """
        import os, signal
        from procession import hosts_from_launcher
        hosts = hosts_from_launcher(None, 2)
        procs = hosts.spawn_procs({"gpus": 2})
        procs.initialized.get(20)
        them = [status.pid for mesh in (procs, hosts._hosts) for status in mesh.statuses().values()]
        print(*them, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    them = [int(word) for word in done.stdout.split()]
    assert len(them) == 6
    for pid in them:
        until(lambda pid=pid: gone(pid), f"the end of {pid}", 10)


def test_lines_and_events_of_all_hosts_come_in_one_stream(hosts):
    with sh(hosts, "echo out; echo err >&2; exec sleep 300", {"x": 2}) as procs:
        lines = iter(procs.logs(follow=True))
        seen = {next(lines) for _ in range(8)}
        assert seen == {f"[{rank}] {line}" for rank in range(4) for line in ("out", "err")}

        async def ends():
            found = []
            events = procs.events()
            killing = asyncio.ensure_future(_killed(procs))
            async for event in events:
                if event.kind == "exit":
                    found.append((event.rank, event.detail["exit"].signal))
            await killing
            return sorted(found)

        assert asyncio.run(ends()) == [(rank, 9) for rank in range(4)]
        assert list(lines) == []
    assert sorted(procs.logs()) == sorted(seen)


async def _killed(procs):
    await procs.kill()


def test_events_and_lines_go_on_when_a_host_is_lost_and_tell_how_its_procs_ended(two):
    with sh(two, "echo up; exec sleep 300", {"x": 2}) as procs:
        lines = iter(procs.logs(follow=True))
        assert len({next(lines) for _ in range(4)}) == 4

        async def ends():
            events, found = procs.events(), []
            procs.slice(hosts=0, x=1).kill()
            async for event in events:
                if event.kind == "exit":
                    found.append((event.rank, event.detail["exit"].kind))
                    if len(found) == 1:
                        os.kill(pids(two)[0], signal.SIGKILL)
                    if len(found) == 2:
                        procs.slice(hosts=1).kill()
            return found

        found = asyncio.run(ends())
        assert found[:2] == [(1, "signaled"), (0, "lost")]
        assert sorted(found[2:]) == [(2, "signaled"), (3, "signaled")]
        assert list(lines) == []
        assert [str(status) for status in procs.statuses().values()] == ["lost", "signaled", "signaled", "signaled"]

        async def more():
            return [(event.kind, event.rank) async for event in procs.events()]

        assert ("exit", 0) in asyncio.run(more())


def test_a_launch_that_fails_is_told_at_once_however_long_another_host_takes(hosts):
    command = lambda point: (  # noqa: E731
        ["/nonexistent/program"] if point["hosts"] else ["/bin/sh", "-c", "exec sleep 300"]
    )
    procs = hosts.spawn_procs(bootstrap_command=command, ready_timeout=60)
    with pytest.raises(LaunchFailed, match="/nonexistent/program"):
        procs.initialized.get(20)
    procs.kill().get(20)


def test_procs_are_not_spawned_on_hosts_that_an_event_loop_would_have_to_wait_for(script):
    script("""
        import asyncio
        from procession import hosts_from_launcher
        from procession.errors import WrongContext
        async def main():
            hosts = hosts_from_launcher(None, 1)
            try:
                hosts.spawn_procs()
            except WrongContext as error:
                assert "await hosts.initialized before" in str(error)
            else:
                assert hosts.initialized.done()
            await hosts.initialized
            await hosts.spawn_procs().initialized
        asyncio.run(main())
    """)


def test_a_wait_for_procs_of_several_hosts_times_out_and_leaves_them_as_they_are(hosts):
    with sh(hosts, "exec sleep 300") as procs:
        with pytest.raises(TimeoutError):
            procs.wait(0.05).get()
        assert list(procs.exits().values()) == [None, None]
        procs.slice(hosts=1).kill().get(20)
        with pytest.raises(TimeoutError):
            procs.wait(0.05).get()
        assert procs.slice(hosts=1).wait(20).get().item().signal == 9


def test_what_ends_is_launched_again_on_its_host_by_a_policy_and_by_hand(hosts):
    restart = Restart("always", intensity=1, backoff=(0.01, 0.01))
    with sh(hosts, "exit 4", restart=restart) as procs:
        exits = procs.wait(20).get().values()
        assert [(one.exit_code, one.incarnation) for one in exits] == [(4, 2), (4, 2)]
        assert [len(one.exits) for one in procs.history().values()] == [2, 2]
    with hosts.spawn_procs() as procs:
        where = [rank for rank, _, _ in procs.spawn("node", Node).where.call().get(20).values()]
        procs.slice(hosts=1).kill().get(20)
        procs.slice(hosts=1).wait(20).get()
        procs.respawn().get(20)
        assert [rank for rank, _, _ in procs.spawn("node", Node).where.call().get(20).values()] == where == [0, 1]


def test_a_launch_that_fails_on_one_host_is_told_with_its_rank(hosts):
    command = lambda point: ["/nonexistent/program"] if point["hosts"] else ["/bin/sleep", "300"]  # noqa: E731
    with hosts.spawn_procs(bootstrap_command=command, readiness="none") as procs:
        with pytest.raises(LaunchFailed, match="/nonexistent/program") as raised:
            procs.initialized.get(20)
        assert raised.value.rank == 1
        assert procs.slice(hosts=1).wait(20).get().item().kind == "failed"
        assert procs.slice(hosts=0).exits().item() is None


def test_a_name_that_is_taken_on_one_host_is_refused_and_nothing_is_left_on_the_others(hosts):
    with sh(hosts.slice(hosts=1), "exec sleep 300", {"x": 1}, name="taken"):
        # The second host has `taken-0` already, and would get it again as the place of its first proc.
        with pytest.raises(AlreadyExists, match="taken-0"):
            sh(hosts.slice(hosts=1), "exec sleep 300", name="taken")
        with sh(hosts, "exec sleep 300", name="taken") as both:  # its ranks there are others
            both.initialized.get(20)


def test_hosts_that_cannot_be_started_say_so_and_nothing_is_launched_on_them():
    hosts = hosts_from_launcher(None, 2, python_executable="/nonexistent/python")
    with pytest.raises(LaunchFailed, match="/nonexistent/python"):
        hosts.initialized.get(20)
    with pytest.raises(LaunchFailed, match="/nonexistent/python"):
        hosts.spawn_procs()
    hosts.stop().get(20)


def launch_there(hosts):
    procs = sh(hosts, "exec sleep 300")
    procs.initialized.get(20)
    return [status.pid for status in procs.statuses().values()]


def test_what_an_actor_launches_on_another_host_ends_with_its_proc(hosts, procs, failures):
    with hosts.slice(hosts=0).spawn_procs() as own:
        node = own.spawn("node", Node)
        (there,) = node.keep.call_one(launch_there, hosts.slice(hosts=1)).get(30)
        assert not gone(there)
        os.kill(node.where.call_one().get(20)[1], signal.SIGKILL)
        until(lambda: gone(there), "it ended with its owner")
        assert failures.get(timeout=20).signal == 9


def test_what_an_actor_launches_on_another_host_ends_with_the_actor(hosts, procs):
    node = procs.slice(hosts=0, gpus=0).spawn("node", Node)
    (there,) = node.keep.call_one(launch_there, hosts.slice(hosts=1)).get(30)
    node.stop().get(20)
    until(lambda: gone(there), "it ended with its owner")


def ask_about(procs):
    return [status.status for status in procs.statuses().values()], procs._procs.hosts.sizes


def kill_first(procs):
    procs.slice(hosts=0).kill().get(20)
    return [exit_.signal for exit_ in procs.slice(hosts=0).wait(20).get().values()]


def test_a_mesh_on_several_hosts_can_be_passed_to_actors_on_any_of_them(hosts, procs, spawned):
    nodes = spawned(Node, procs=procs)
    with sh(hosts, "exec sleep 300", {"x": 2}) as given:
        given.initialized.get(20)
        for rank in (0, 3):
            one = nodes.flatten("all").slice(all=rank)
            assert one.do.call_one(ask_about, given).get(20) == (["running"] * 4, {"hosts": 2})
        assert nodes.slice(hosts=1, gpus=0).do.call_one(kill_first, given).get(20) == [9, 9]
        assert [exit_ and exit_.signal for exit_ in given.exits().values()] == [9, 9, None, None]


def host_of_this_proc():
    with this_host().spawn_procs() as procs:
        return procs.spawn("node", Node).where.call_one().get(20)[2], os.getppid()


def test_this_host_of_a_proc_is_the_one_that_has_launched_it(procs, spawned):
    nodes = spawned(Node, procs=procs)
    for host in (0, 1):
        launched_by, own_parent = nodes.slice(hosts=host, gpus=0).do.call_one(host_of_this_proc).get(30)
        assert launched_by == own_parent


def test_a_launcher_class_gets_a_process_on_every_host(hosts):
    with sh(hosts, "exec sleep 300", launcher=Supervising) as procs:
        procs.initialized.get(30)
        assert [status.launcher for status in procs.statuses().values()] == ["Supervising"] * 2
        until(lambda: all(status.pid for status in procs.statuses().values()), "their pids are known")
        parents = {parent_of(status.pid) for status in procs.statuses().values()}
        assert len(parents) == 2
        procs.kill().get(20)
        assert [exit_.signal for exit_ in procs.wait(20).get().values()] == [9, 9]


def test_a_launcher_actor_of_the_client_serves_every_host(hosts):
    launcher = this_proc().spawn("supervising", Supervising)
    with sh(hosts, "exit 5", launcher=launcher) as procs:
        assert [exit_.exit_code for exit_ in procs.wait(20).get().values()] == [5, 5]
    launcher.stop().get(20)


def test_what_cannot_be_done_with_hosts_is_refused_with_what_can(hosts, procs, spawned):
    nodes = spawned(Node, procs=procs)
    with pytest.raises(InvalidArgument, match="ends with it"):
        hosts.spawn_procs(on_owner_loss="detach", log_dir="/tmp")
    with pytest.raises(Exception, match="stop the procs instead"):
        nodes.slice(hosts=0, gpus=0).do.call_one(_stop_own_host).get(20)

    async def block():
        with hosts:
            pass

    with pytest.raises(WrongContext, match="async with"):
        asyncio.run(block())
    with pytest.raises(Unsupported, match="slice the mesh to one host"):
        procs._procs.launcher_process()


def _stop_own_host():
    this_host().stop()


def test_hosts_end_with_the_block_that_they_were_made_in():
    async def within():
        async with hosts_from_launcher(None, {"racks": 1, "hosts": 2}) as hosts:
            await hosts.initialized
            assert hosts.sizes == {"racks": 1, "hosts": 2}
            procs = hosts.spawn_procs()
            await procs.initialized
            return hosts, procs, await procs.spawn("node", Node).where.call()

    hosts, procs, found = asyncio.run(within())
    assert isinstance(procs, ProcMesh)
    assert found.extent.labels == ["racks", "hosts"]
    assert all(exit_.requested for exit_ in procs.exits().values())
    assert [exit_.exit_code for exit_ in hosts.exits().values()] == [0, 0]


def hosts_of_its_own():
    hosts = hosts_from_launcher(None, 1)
    procs = hosts.spawn_procs({"x": 2})
    found = procs.spawn("node", Node).where.call().get(20)
    return procs, [pid for _, pid, _ in found.values()], str(context().actor_instance.actor_id)


def test_hosts_below_hosts_are_reached_from_everywhere_and_end_with_who_has_them(hosts, procs):
    node = procs.slice(hosts=0, gpus=0).spawn("node", Node)
    deep, there, _ = node.keep.call_one(hosts_of_its_own).get(40)
    far = procs.slice(hosts=1, gpus=1).spawn("far", Node)
    nodes = deep.spawn("deep", Node)
    assert [pid for _, pid, _ in nodes.where.call().get(20).values()] == there
    assert far.do.call_one(call_others, nodes).get(20) == [0, 1]
    nodes.stop().get(20)
    far.stop().get(20)
    node.stop().get(30)
    for pid in there:
        until(lambda pid=pid: gone(pid), "it ended with its owner")


def test_actors_that_a_policy_builds_again_are_found_on_their_host_by_who_calls_them(hosts, procs, spawned, failures):
    with hosts.spawn_procs(restart=Restart("always", backoff=(0.01, 0.01), actors="respawn")) as own:
        nodes = own.spawn("node", Node)
        before = [pid for _, pid, _ in nodes.where.call().get(20).values()]
        asker = spawned(Node, procs=procs.slice(hosts=0, gpus=1))
        os.kill(before[1], signal.SIGKILL)
        until(lambda: own.slice(hosts=1).statuses().item().restarts, "it is launched again")
        assert asker.do.call_one(call_others, nodes).get(30) == [0, 1]
        after = [pid for _, pid, _ in nodes.where.call().get(20).values()]
        assert after[0] == before[0]
        assert after[1] != before[1]
        assert [status.restarts for status in own.statuses().values()] == [0, 1]
    assert failures.empty()

"""Hosts on machines that are served, for a client that attaches to them."""

import subprocess
import sys

import pytest

from launching import gone, until
from procession.actor import Actor, attach, attach_to_workers, current_rank, endpoint, run_worker_loop_forever
from procession.errors import InvalidArgument, LauncherUnavailable, SupervisionError, Unsupported
from workers import make_key, serving

CA = "trust_all_connections"

ONE = """
import sys
from procession.actor import run_worker_loop_until_shutdown
run_worker_loop_until_shutdown(private_key=sys.argv[1].encode(), ca="trust_all_connections", address="tcp://" + sys.argv[2])
"""


class Where(Actor):
    @endpoint
    def where(self):
        import os

        return current_rank().rank, os.getpid(), os.getppid()


@pytest.fixture
def key(tmp_path):
    return make_key(tmp_path)


@pytest.fixture
def two(key):
    """Two workers of this machine."""
    with serving(key) as one, serving(key) as other:
        yield [one, other]


def attached(workers, key, **more):
    return attach_to_workers(private_key=key, ca=CA, workers=[worker.address for worker in workers], **more)


def test_workers_are_hosts_in_their_order_and_their_procs_one_mesh(two, key):
    with attached(two, key, name="fleet") as hosts:
        assert hosts.sizes == {"hosts": 2}
        assert hosts.initialized.get(30)
        with hosts.spawn_procs({"gpus": 2}) as procs:
            found = list(procs.spawn("where", Where).where.call().get(30).values())
            assert [rank for rank, _, _ in found] == [0, 1, 2, 3]
            assert found[0][2] == found[1][2] != found[2][2] == found[3][2]
        assert list(hosts.exits().values()) == [None, None]
    assert [exit_.exit_code for exit_ in hosts.exits().values()] == [0, 0]
    assert [exit_.rank for exit_ in hosts.exits().values()] == [0, 1]
    assert [exit_.name for exit_ in hosts.exits().values()] == ["fleet-0-0", "fleet-1-0"]


def test_when_a_worker_is_missing_all_are_named_and_nothing_is_started(two, key):
    with pytest.raises(LauncherUnavailable) as raised:
        attach_to_workers(private_key=key, ca=CA, workers=[two[0].address, "127.0.0.1:1", "127.0.0.1:2"])
    told = str(raised.value)
    assert told.startswith("2 of 3 workers cannot be reached: ")
    assert "127.0.0.1:1:" in told
    assert "127.0.0.1:2:" in told
    assert two[0].address not in told


def test_another_key_lets_nobody_attach(two, key, tmp_path_factory):
    other = make_key(tmp_path_factory.mktemp("other"))
    with pytest.raises(LauncherUnavailable, match="both ends need the same session key"):
        attached(two, other)


def test_a_slice_of_the_hosts_ends_alone(two, key):
    hosts = attached(two, key)
    procs = hosts.spawn_procs()
    where = procs.spawn("where", Where)
    where.where.call().get(30)
    hosts.slice(hosts=0).stop().get(30)
    assert [exit_ and exit_.exit_code for exit_ in procs.exits().values()] == [0, None]
    assert where.slice(hosts=1).where.call_one().get(20)[0] == 0
    with pytest.raises(SupervisionError):
        where.slice(hosts=0).where.call_one().get(20)
    hosts.stop().get(30)


def test_the_end_of_a_worker_is_that_of_its_host_and_its_procs_alone(two, key, failures):
    with attached(two, key) as hosts:
        procs = hosts.spawn_procs()
        found = list(procs.spawn("where", Where).where.call().get(30).values())
        two[0].send(9)
        lost = procs.slice(hosts=0).wait(40).get().item()
        assert lost.kind == "lost"
        assert two[0].address in lost.failed_reason
        until(lambda: gone(found[0][1]), "its proc is gone")
        assert procs.slice(hosts=1).exits().item() is None
        assert failures.get(timeout=20).rank == 0
        with pytest.raises(SupervisionError):
            hosts.spawn_procs()


def test_two_clients_have_hosts_of_their_own_on_the_same_workers(two, key, script):
    with attached(two, key) as hosts:
        procs = hosts.spawn_procs()
        procs.initialized.get(30)
        script(
            """
            import sys
            from procession.actor import attach_to_workers
            with attach_to_workers(private_key=sys.argv[1].encode(), ca="trust_all_connections", workers=sys.argv[2:]) as hosts:
                procs = hosts.spawn_procs({"x": 2})
                assert procs.initialized.get(30)
                assert len(procs) == 4
            """.replace("sys.argv[1].encode()", "__import__('pathlib').Path(sys.argv[1])"),
            str(key),
            *[worker.address for worker in two],
        )
        assert [status.status for status in procs.statuses().values()] == ["ready", "ready"]


def test_a_shutdown_ends_workers_that_wait_for_it_and_leaves_others(key, tmp_path):
    with serving(key) as forever:
        text = key.read_text().strip()
        program = tmp_path / "worker.py"
        program.write_text(ONE)
        port = _free_port()
        address = f"127.0.0.1:{port}"
        process = subprocess.Popen([sys.executable, str(program), text, address])
        try:
            hosts = until(lambda: _try_to_attach([address, forever.address], key), "it serves")
            hosts.spawn_procs().initialized.get(30)
            hosts.shutdown().get(30)
            assert process.wait(20) == 0
            assert forever.process.poll() is None
            with attached([forever], key) as again:
                again.initialized.get(30)
        finally:
            process.kill()
            process.wait()


def _free_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _try_to_attach(addresses, key):
    try:
        return attach_to_workers(private_key=key, ca=CA, workers=addresses)
    except LauncherUnavailable:
        return None


def test_what_is_no_worker_or_no_key_is_refused_with_what_to_do(key, monkeypatch):
    for name in ("PROCESSION_SESSION_KEY", "PROCESSION_SESSION_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidArgument, match="procession key"):
        attach_to_workers(ca=CA, workers=["127.0.0.1:1"])
    with pytest.raises(InvalidArgument, match="pass a list"):
        attach_to_workers(private_key=key, ca=CA, workers="127.0.0.1:1")
    with pytest.raises(InvalidArgument, match="one worker at least"):
        attach_to_workers(private_key=key, ca=CA, workers=[])
    with pytest.raises(Unsupported, match="session key"):
        attach_to_workers(private_key=key, ca=b"somebody's", workers=["127.0.0.1:1"])
    with pytest.raises(Unsupported, match="attach_to_workers"):
        attach("127.0.0.1:1")
    with pytest.raises(Unsupported, match="session key"):
        run_worker_loop_forever(ca=b"somebody's", address="127.0.0.1:0")

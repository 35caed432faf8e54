"""Hosts that are reached as users reach theirs: through sshd, and through Slurm."""

import os
import sys

import pytest

from elsewhere import Slurm, Ssh, program, slurm, sshd
from launching import gone, until
from procession import hosts_from_launcher
from procession.actor import Actor, endpoint, this_proc

PATHS = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Here(Actor):
    @endpoint
    def variable(self, name):
        return os.environ.get(name)

    @endpoint
    def pid(self):
        return os.getpid()

    @endpoint
    def pids_of(self, others):
        return sorted(others.pid.call().get(20).values())


@pytest.fixture(scope="module", autouse=True)
def listening():
    """The client waits for hosts that reach back at an address which it listens at until it ends."""
    from launching import Supervising, spawn
    from procession.launch import DialBack

    class Near(Supervising):
        dial_back = DialBack.network(bind="127.0.0.1:0")

    near = this_proc().spawn("near", Near)
    with spawn(near) as procs:
        procs.initialized.get(30)
    near.stop().get(10)


def hosts_and_all_on_them(launcher, variable):
    hosts = hosts_from_launcher(launcher, 2, env=PATHS)
    hosts.initialized.get(60)
    procs = hosts.spawn_procs({"gpus": 2})
    here = procs.spawn("here", Here)
    pids = sorted(here.pid.call().get(30).values())
    asker = procs.slice(hosts=1, gpus=0).spawn("asker", Here)
    assert asker.pids_of.call_one(here).get(30) == pids
    found = list(here.variable.call(variable).get(30).values())
    assert len(set(pids)) == 4
    return hosts, pids, found


def end_of(hosts, pids):
    hosts.stop().get(60)
    for pid in pids:
        until(lambda pid=pid: gone(pid), "it ended with its host")
    return [exit_.exit_code for exit_ in hosts.exits().values()]


@pytest.mark.skipif(program("sshd") is None, reason="capability: sshd")
@pytest.mark.skipif(os.getuid() != 0, reason="capability: root, for an sshd")
def test_hosts_over_ssh(tmp_path):
    with sshd(tmp_path) as config:
        launcher = this_proc().spawn("ssh", Ssh, {"config": str(config)})
        hosts, pids, found = hosts_and_all_on_them(launcher, "SSH_CONNECTION")
        assert all(value.startswith("127.0.0.1 ") for value in found)
        assert end_of(hosts, pids) == [0, 0]
        launcher.stop().get(20)


@pytest.mark.skipif(program("slurmctld") is None, reason="capability: Slurm")
@pytest.mark.skipif(os.getuid() != 0, reason="capability: root, for a Slurm")
def test_hosts_that_are_jobs_of_slurm(tmp_path):
    with slurm(tmp_path) as conf:
        launcher = this_proc().spawn("slurm", Slurm, {"conf": str(conf)})
        hosts, pids, found = hosts_and_all_on_them(launcher, "SLURMD_NODENAME")
        assert sorted(found) == ["n1", "n1", "n2", "n2"]
        assert end_of(hosts, pids) == [0, 0]
        launcher.stop().get(20)

"""There is next to no CPU."""

import os
import sys

import pytest

from capabilities import group_below_own, need

SECONDS = 60

STARVED = """
    import sys, time
    from pathlib import Path
    from procession.actor import Actor, endpoint, this_host
    from procession.launch import DialBack
    from launching import Supervising

    group, seconds = Path(sys.argv[1]), int(sys.argv[2])
    (group / "cgroup.procs").write_text("0")  # this process, before it has started another

    class Echo(Actor):
        @endpoint
        def echo(self, it):
            return it

    class OverTheNetwork(Supervising):
        dial_back = DialBack.network(bind="127.0.0.1:0")

    def ready(**how):
        procs = this_host().spawn_procs(**how)
        procs.initialized.get(40)
        return procs

    meshes = [ready(per_host={"gpus": 2}), ready(launcher=OverTheNetwork)]
    meshes.append(ready(bootstrap_command=["/bin/sleep", "1000"], readiness="none"))
    echoes = [mesh.spawn("echo", Echo) for mesh in meshes[:2]]

    def throttle(percent):
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{percent * 1000} 100000" if percent else "max")
        else:
            (group / "cpu.cfs_quota_us").write_text(str(percent * 1000 if percent else -1))

    throttle(5)
    began, answers = time.monotonic(), 0
    try:
        while time.monotonic() - began < seconds:
            for echo in echoes:
                assert set(echo.echo.call(answers).get(40).values()) == {answers}
            answers += 1
    finally:
        throttle(None)
    stat = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    print("throttled", int(stat["nr_throttled"]), "answers", answers)
    ends = [exit for mesh in meshes for exit in mesh.exits().values() if exit is not None]
    assert ends == [], ends
    for echo in echoes:
        assert set(echo.echo.call("still").get(40).values()) == {"still"}
    for mesh in meshes:
        mesh.stop().get(40)
"""


@pytest.mark.fault("F79")
@pytest.mark.timeout(240)
def test_nobody_is_taken_for_dead_while_the_cpu_is_starved(script):
    need("cpu-limit")
    with group_below_own("cpu", "starved-test") as group:
        env = {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = script(STARVED, str(group), str(SECONDS), timeout=200, env=env)
    words = done.stdout.split()
    assert int(words[1]) > SECONDS, "it was starved"
    assert int(words[3]) > 0

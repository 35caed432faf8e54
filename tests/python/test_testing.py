"""The launcher that users get for their own tests."""

import pytest

from procession.actor import this_host
from procession.launch import ProcExitResult
from procession.testing import ScriptedLauncher

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


@pytest.fixture
def launcher(spawned):
    return spawned(
        ScriptedLauncher,
        {
            "exits": {
                "w-0": ProcExitResult(3, None, False, None, ["last words"]),
                "w-1": OSError("no image"),
                "w-2": [ProcExitResult(1, None, False, None, []), ProcExitResult(0, None, False, None, [])],
            }
        },
    )


def test_exits_are_played_as_written(launcher):
    procs = this_host().spawn_procs(per_host={"x": 5}, name="w", readiness="none", launcher=launcher)
    with procs:
        done = procs.slice(x=slice(0, 3))
        kinds = [(one.kind, one.exit_code) for one in done.wait(20).get().values()]
        assert kinds == [("exited", 3), ("failed", None), ("exited", 1)]
        assert done.exits().item(x=0).stderr_tail == ["last words"]
        procs.respawn([2]).get(20)
        assert procs.slice(x=2).wait(20).get().item().exit_code == 0

        launcher.end.call_one("w-3", ProcExitResult(9, None, False, None, [])).get(10)
        assert procs.slice(x=3).wait(20).get().item().exit_code == 9
        procs.slice(x=4).initialized.get(20)
        procs.slice(x=4).kill().get(20)
        assert procs.slice(x=4).wait(20).get().item().signal == 9
    assert launcher.calls.call_one().get(10).count(("launch", "w-2")) == 2
    assert ("kill", "w-4") in launcher.calls.call_one().get(10)

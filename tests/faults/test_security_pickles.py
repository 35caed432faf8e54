"""What is never unpickled."""

import os
import pickle
from pathlib import Path

import pytest

from launching import only_exit, spawn
from procession.launch import Capabilities, ProcLauncher


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


class Sly(ProcLauncher):
    """Answers with a pickle where an exit is due, past what keeps it from that."""

    capabilities = Capabilities()

    def launch(self, exit_port, proc_id, opts):
        payload = [pickle.dumps(Trap(opts.env["MARK"]))]
        if "raise" in opts.env:
            exit_port._ref.exception(payload, None)
        else:
            exit_port._ref.send(payload, [], None)

    def terminate(self, proc_id, timeout_secs):
        pass

    def kill(self, proc_id):
        pass


@pytest.mark.fault("F107")
@pytest.mark.parametrize("how", [{}, {"raise": "1"}], ids=["value", "exception"])
def test_the_host_opens_no_pickle_where_an_exit_is_due(tmp_path, how):
    mark = tmp_path / "opened"
    exit = only_exit(spawn(Sly, "exec sleep 60", env={"MARK": str(mark), **how}))
    assert exit.kind == "failed"
    assert "pickle came from another process" in exit.failed_reason
    assert not Path(mark).exists()

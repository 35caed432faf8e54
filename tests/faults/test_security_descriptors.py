"""What a launched process finds open."""

import os
import socket
import sys

import pytest

from launching import Supervising, only_exit, spawn
from procession.actor import this_host

# Lists what is open but for the descriptor that lists it.
LIST = """
import os
for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
    try:
        print(fd, os.readlink(f"/proc/self/fd/{fd}"))
    except FileNotFoundError:
        pass
"""


@pytest.mark.fault("F106")
@pytest.mark.parametrize("launcher", [None, Supervising], ids=["native", "python"])
def test_a_program_has_its_standard_streams_and_nothing_of_its_client(tmp_path, launcher):
    secret = tmp_path / "key"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as listening, secret.open() as key, this_host().spawn_procs() as others:
        others.initialized.get(30)
        # As careless as a client can be: what it has open is not closed when it executes something.
        for fd in (listening.fileno(), key.fileno()):
            os.set_inheritable(fd, True)
        procs = spawn(launcher, bootstrap_command=[sys.executable, "-c", LIST], readiness="none")
        with procs:
            exit = only_exit(procs)
    assert exit.exit_code == 0
    seen = [line.split(" ", 1) for line in exit.stdout_tail]
    assert [fd for fd, _ in seen] == ["0", "1", "2"]
    assert seen[0][1] == "/dev/null"
    assert all(link.startswith("pipe:") for _, link in seen[1:])

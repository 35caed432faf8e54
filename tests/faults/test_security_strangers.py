"""Who else may knock at the socket of a client."""

import os
import random
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launching import spawn, until
from procession.actor import this_host

NOBODY = 65534
ANSWER_BYTES = 76


@pytest.fixture
def path():
    """Where the procs of this client call back."""
    with this_host().spawn_procs() as procs:
        procs.initialized.get(30)
        [found] = {lock.parent / "host" for lock in Path(os.environ["XDG_RUNTIME_DIR"]).glob("procession-*/lock")}
        yield found


def hello(launch: bytes) -> bytes:
    """The first message of a proc, from its id on a nonce."""
    return b"\xf5Process" + (3).to_bytes(2, "little") + b"\1\0" + launch + os.urandom(32)


def talk(path: Path, *words: bytes, wait: int = 0) -> bytes:
    """What the client answers until it closes, which it does before long."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(30)
        stream.connect(str(path))
        try:
            for word in words:
                stream.sendall(word)
                while wait and len(answer) < wait and (more := stream.recv(4096)):
                    answer += more
                wait = 0
            while more := stream.recv(4096):
                answer += more
        except ConnectionError:
            pass
    return answer


@pytest.mark.fault("F93")
def test_a_stranger_of_the_same_user_is_refused_and_the_real_proc_is_let_in(path, tmp_path):
    script = f"touch {tmp_path}/up; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exec {sys.executable} -m procession._proc_main"
    with spawn(None, bootstrap_command=["/bin/sh", "-c", script]) as procs:
        until((tmp_path / "up").exists)
        pid = next(iter(procs.statuses().values())).pid
        environ = Path(f"/proc/{pid}/environ").read_text()
        # The id of a launch is no secret; what proves it is.
        launch = bytes.fromhex(re.search(r"PROCESSION_LAUNCH_ID=([0-9a-f]{32})", environ)[1])
        assert talk(path, hello(os.urandom(16))) == b"", "a guessed id gets nothing"
        for proof in (os.urandom(32), bytes(32)):
            answer = talk(path, hello(launch), proof, wait=ANSWER_BYTES)
            assert len(answer) == ANSWER_BYTES, "a hello, and no acceptance"
        assert len(talk(path, hello(launch), answer[-32:], wait=ANSWER_BYTES)) == ANSWER_BYTES
        (tmp_path / "go").touch()
        procs.initialized.get(30)
        assert talk(path, hello(launch)) == b"", "its token is used up"


@pytest.mark.fault("F94")
def test_another_user_does_not_reach_the_socket(path):
    if os.geteuid() != 0:
        pytest.skip("capability: change-user")
    knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    command = ["/usr/bin/env", "python3", "-c", knock, str(path)]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


@pytest.mark.fault("F88")
def test_random_words_before_the_handshake_close_their_connection_and_no_other(path):
    dice = random.Random(8)
    with this_host().spawn_procs() as procs:
        procs.initialized.get(30)
        start = hello(bytes(16))
        for _ in range(500):
            words = bytearray(start + dice.randbytes(dice.randrange(200)))
            for _ in range(dice.randrange(4)):
                words[dice.randrange(len(words))] = dice.randrange(256)
            # Cut short, the client waits for the rest, and closes after two seconds: not what this is about.
            assert len(talk(path, bytes(words))) in (0, ANSWER_BYTES)
        assert {str(status) for status in procs.statuses().values()} == {"ready"}


@pytest.mark.fault("F102")
def test_a_client_with_procs_of_this_machine_listens_at_no_port(script):
    source = """
    import os
    from procession.actor import this_host
    with this_host().spawn_procs() as procs:
        procs.initialized.get(30)
        own = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
               if os.path.islink(f"/proc/self/fd/{fd}")}
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for line in open(f"/proc/self/net/{table}").read().splitlines()[1:]:
                if f"socket:[{line.split()[9]}]" in own:
                    print(table, line.split()[1])
    """
    assert script(source).stdout == ""

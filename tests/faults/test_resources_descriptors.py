"""No file descriptors are left in the host's process; a path is too long for a socket."""

import tempfile
from pathlib import Path

import pytest

WITHOUT_DESCRIPTORS = """
    import os, resource, socket, subprocess, sys, time
    from pathlib import Path
    from procession.actor import Actor, endpoint, this_host

    class Echo(Actor):
        @endpoint
        def echo(self, it):
            return it

    def sleeper():
        procs = this_host().spawn_procs(bootstrap_command=["/bin/sleep", "1000"], readiness="none")
        procs.initialized.get(30)
        return procs

    def run_out():
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return held

    early, echoes = sleeper(), this_host().spawn_procs()
    echo = echoes.spawn("echo", Echo)
    assert echo.echo.call_one(1).get(30) == 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
"""


@pytest.mark.fault("F72")
def test_without_descriptors_launches_are_refused_kills_work_and_all_is_well_afterwards(script):
    done = script(
        WITHOUT_DESCRIPTORS
        + """
    held = run_out()
    for options in ({"bootstrap_command": ["/bin/true"], "readiness": "none"}, {}):
        late = this_host().spawn_procs(**options).wait(30).get().item()
        assert late.kind == "failed" and "Too many open files" in late.failed_reason, late
        assert "file descriptors" in late.failed_reason, late
    assert echo.echo.call_one(2).get(30) == 2
    early.kill().get(30)
    assert early.wait(30).get().item().signal == 9

    for fd in held:
        os.close(fd)
    began = time.monotonic()
    sleeper().stop().get(30)
    assert time.monotonic() - began < 10
    """
    )
    assert done.stderr == ""


DIAL = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as dialler:
    dialler.settimeout(30)
    dialler.connect(sys.argv[1])
    print("dialled", flush=True)
    print("answered", len(dialler.recv(1)), flush=True)
"""


@pytest.mark.fault("F72")
def test_who_dials_while_no_descriptor_is_left_is_let_in_afterwards_and_costs_little_cpu(script, tmp_path):
    run = Path(tempfile.mkdtemp(prefix="fds-", dir="/tmp"))
    (tmp_path / "dial.py").write_text(DIAL)
    try:
        script(
            WITHOUT_DESCRIPTORS
            + f"""
    (door,) = Path({str(run)!r}).glob("procession-*/host")
    dialler = subprocess.Popen([sys.executable, {str(tmp_path / "dial.py")!r}, door], stdout=subprocess.PIPE, text=True)
    held = run_out()
    assert dialler.stdout.readline() == "dialled\\n"
    # What it costs while nothing happens is seen in time only.
    cpu, began = time.process_time(), time.monotonic()
    while time.monotonic() - began < 2:
        assert echo.echo.call_one(3).get(30) == 3
        time.sleep(0.1)
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    assert share < 0.5, share
    for fd in held:
        os.close(fd)
    began = time.monotonic()
    assert dialler.stdout.readline() == "answered 0\\n", "a stranger is cut off, once it was let in"
    assert time.monotonic() - began < 20
    dialler.wait(30)
    dialler.stdout.close()
    """,
            env={"XDG_RUNTIME_DIR": str(run)},
        )
    finally:
        run.rmdir()


@pytest.mark.fault("F75")
@pytest.mark.parametrize("variables", [("TMPDIR",), ("XDG_RUNTIME_DIR", "TMPDIR")])
def test_where_a_socket_has_no_room_in_a_path_a_shorter_place_is_taken(script, tmp_path, variables):
    deep = tmp_path.joinpath(*["d" * 40] * 4)
    deep.mkdir(parents=True)
    script(
        """
        import os, sys
        from procession.actor import this_host

        with this_host().spawn_procs() as procs:
            procs.initialized.get(30)
            exits = this_host().spawn_procs(bootstrap_command=["/bin/sh", "-c", "exit 3"], readiness="none")
            assert exits.wait(30).get().item().exit_code == 3
            assert os.listdir(sys.argv[1]) == []
        """,
        str(deep),
        env=dict.fromkeys(variables, str(deep)),
    )

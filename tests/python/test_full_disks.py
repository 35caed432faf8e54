"""Disks without room, in mounts that only the test sees."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap

import pytest


@pytest.fixture
def on_a_full_disk(tmp_path):
    """Runs a script in a private mount namespace, with a small file system at its argument."""
    # Short enough for the sockets of a run directory.
    disk = tempfile.mkdtemp(prefix="disk-", dir="/tmp")

    def run(options, source):
        unshare = [shutil.which("unshare") or "unshare", "-m", "sh", "-c"]
        mount = f"mount -t tmpfs -o {options} none {disk}"
        try:
            able = subprocess.run([*unshare, mount], capture_output=True).returncode == 0
        except OSError:
            able = False
        if not able:
            pytest.skip("capability: namespaces")
        (tmp_path / "script.py").write_text(textwrap.dedent(source))
        inside = f'{mount} && exec "$0" "$@"'
        done = subprocess.run(
            [*unshare, inside, sys.executable, tmp_path / "script.py", disk],
            capture_output=True,
            text=True,
            timeout=50,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    yield run
    os.rmdir(disk)


@pytest.mark.fault("F73")
def test_a_full_log_dir_costs_its_bytes_which_are_counted_and_nothing_else(on_a_full_disk):
    told = on_a_full_disk(
        "size=1m",
        """
        import asyncio, os, sys
        from pathlib import Path
        from procession.actor import this_host

        disk = Path(sys.argv[1])
        command = f"seq 1 400000; rm {disk}/ballast; echo after >&2; exit 4"
        (disk / "ballast").write_bytes(bytes(1 << 19))
        procs = this_host().spawn_procs(
            bootstrap_command=["/bin/sh", "-c", command], readiness="none", name="w", log_dir=disk / "logs")
        async def notes():
            return [event.detail["text"] async for event in procs.events() if event.kind == "note"]
        heard = asyncio.run(notes())
        one = procs.wait(30).get().item()
        written = sum(len(str(n)) + 1 for n in range(1, 400001)) + len("after\\n")
        kept = sum(path.stat().st_size for path in (disk / "logs").iterdir())
        assert one.exit_code == 4, one
        assert one.log_dropped_bytes > 0 and kept + one.log_dropped_bytes == written, (kept, one)
        assert one.stdout_tail[-1] == "400000" and one.stderr_tail == ["after"]
        assert Path(one.stderr_path).read_text() == "after\\n", "it is written again once there is room"
        assert [text for text in heard if "No space left" in text and "stdout" in text] == heard, heard
        """,
    )
    assert told.count("cannot be written") == 1, told


@pytest.mark.fault("F73")
def test_a_full_run_dir_fails_what_needs_a_socket_and_nothing_else(on_a_full_disk):
    on_a_full_disk(
        "nr_inodes=40,size=1m",
        """
        import os, sys
        from itertools import count
        from pathlib import Path

        os.environ["XDG_RUNTIME_DIR"] = sys.argv[1]
        from procession.actor import this_host

        def spawn():
            return this_host().spawn_procs(bootstrap_command=["sleep", "1000"], readiness="none")

        early = spawn()
        early.initialized.get(30)
        made = []
        try:
            for number in count():
                path = Path(sys.argv[1], f"ballast-{number}")
                path.touch()
                made.append(path)
        except OSError:
            pass
        late = spawn().wait(30).get().item()
        assert late.kind == "failed" and "No space left" in late.failed_reason, late
        assert "free some space" in late.failed_reason, late
        early.kill().get(30)
        assert early.wait(30).get().item().signal == 9
        made[0].unlink()
        with spawn() as again:
            again.initialized.get(30)
        """,
    )


@pytest.mark.fault("F73")
def test_on_a_full_disk_nothing_is_launched_that_the_next_client_would_not_know_and_later_all_is_known(on_a_full_disk):
    on_a_full_disk(
        "size=1m",
        """
        import os, signal, subprocess, sys
        from pathlib import Path

        disk = Path(sys.argv[1])
        if len(sys.argv) == 2:
            first = subprocess.run([sys.executable, __file__, disk, "first"])
            assert first.returncode == -signal.SIGKILL, first
            subprocess.run([sys.executable, __file__, disk, "next"], check=True)
            sys.exit()

        from procession import reattach, this_host

        meshes, exits = reattach(disk / "d")
        def spawn(name, **env):
            return this_host().spawn_procs(bootstrap_command=["sleep", "1000"], readiness="none", name=name, env=env,
                                           on_owner_loss="detach", log_dir=disk / "logs")
        if sys.argv[2] == "first":
            spawn("early").initialized.get(30)
            ballast = disk / "ballast"
            try:
                with open(ballast, "wb", buffering=0) as file:
                    while True: file.write(bytes(4096))
            except OSError:
                pass
            refused = spawn("refused", MUCH="x" * 10_000).wait(30).get().item()
            assert refused.kind == "failed" and "No space left" in refused.failed_reason, refused
            assert "free some space" in refused.failed_reason, refused
            ballast.unlink()
            spawn("late").initialized.get(30)
            os.kill(os.getpid(), signal.SIGKILL)
        assert sorted(meshes) == ["early", "late"], meshes
        assert [exit.name for exit in exits] == ["refused-0"], exits
        for mesh in meshes.values():
            mesh.initialized.get(30)
            mesh.kill().get(30)
            assert mesh.wait(30).get().item().signal == 9
        """,
    )

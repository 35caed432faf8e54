"""The scripts around engines: which one is used, and that what they leave on a machine is seen."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ENGINES = Path(__file__).parents[2] / "engines"


def bash(text, *prefix):
    command = [*prefix, "bash", "-euo", "pipefail", "-c", f". {ENGINES}/lib.sh; {text}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(("ci", "code"), [(None, 0), ("", 0), ("true", 77)])
def test_a_docker_that_answers_will_do_unless_ci_is_set(tmp_path, ci, code):
    (tmp_path / "docker").write_text("#!/bin/sh\n")  # it answers
    (tmp_path / "docker").chmod(0o755)
    for tool in ("bash", "dirname", "id", "sort"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    # Without the tools that a place is made with there can be no private one.
    environ = {name: value for name, value in os.environ.items() if name != "CI"} | {"PATH": str(tmp_path)}
    if ci is not None:
        environ["CI"] = ci
    done = subprocess.run([ENGINES / "docker.sh", "check"], env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("no Docker that may be used answers") or code == 0


def test_the_systemd_of_a_machine_is_never_used(tmp_path):
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")  # it answers
    (tmp_path / "systemctl").chmod(0o755)
    for tool in ("bash", "dirname", "id", "sort"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    environ = {**os.environ, "PATH": str(tmp_path)}  # without the tools that a place is made with
    for command, code in (["check", 77], ["up", 77], ["with", 77]):
        asked = [ENGINES / "systemd.sh", command, "false"]
        done = subprocess.run(asked, env=environ, capture_output=True, text=True, timeout=30)
        assert done.returncode == code, done.stderr
        assert "root" in done.stdout or "is missing" in done.stdout


@pytest.mark.parametrize(("engine", "variable"), [("slurm", "SLURM_CONF"), ("kube", "KUBECONFIG")])
def test_a_slurm_and_a_kubernetes_are_always_private_ones(tmp_path, engine, variable):
    for tool in ("bash", "dirname", "id", "sort"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path), variable: "/of/somebody.conf"}
    done = subprocess.run([ENGINES / f"{engine}.sh", "check"], env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 77, done.stderr
    assert done.stdout.startswith(f"no {engine.title()} that may be used answers, and none can be started: ")


def test_what_virtual_machines_need_is_named_where_it_is_missing(tmp_path):
    for tool in ("bash", "dirname", "sort", "uname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([ENGINES / "vm.sh", "check"], env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 77, done.stderr
    assert "qemu-system-x86" in done.stdout or "guests are x86-64 machines" in done.stdout


def test_an_image_that_cannot_be_made_leaves_no_files(tmp_path):
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHON": "false", "WHEEL": "none"}
    done = subprocess.run(
        [ENGINES / "vm.sh", "image", "no.img"], env=environ, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_what_an_installation_needs_is_gone_after_it_whatever_else_its_caller_takes_away(tmp_path):
    if (possible := bash("place_possible")).returncode != 0:
        pytest.skip(possible.stdout.strip())
    for folder in ("bin", "sbin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin" / "apt-get").write_text("#!/bin/sh\ntest -x /usr/sbin/policy-rc.d && echo it is there >&2\n")
    (tmp_path / "bin" / "apt-get").chmod(0o755)
    prepare = f"mount --bind {tmp_path}/sbin /usr/sbin; PATH={tmp_path}/bin:$PATH"
    done = bash(f"{prepare}; install_packages one; trap true EXIT", "unshare", "--mount", "--propagation", "private")
    assert done.returncode == 0, done.stderr
    assert "it is there" in done.stderr
    assert list((tmp_path / "sbin").iterdir()) == []


@pytest.mark.parametrize(
    ("trace", "shown"),
    [
        ("true", None),
        ("mount -t tmpfs trace /mnt", "/mnt"),
        ("ip link add trace type bridge", "trace"),
        ("iptables -N LEFT-OVER", "LEFT-OVER"),
        ("ip netns add trace", "trace"),
    ],
)
def test_what_an_engine_leaves_on_a_machine_is_shown(trace, shown):
    if (possible := bash("place_possible")).returncode != 0:
        pytest.skip(possible.stdout.strip())
    if (tool := shutil.which(trace.split()[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")) is None:
        pytest.skip(f"{trace.split()[0]} is not installed")
    own = ["unshare", "--net", "--mount", "--propagation", "private"]
    prepare = "mount -t tmpfs own /run; before=$(footprint)"
    if bash(f"{prepare}; {trace.replace(trace.split()[0], tool, 1)}", *own).returncode != 0:
        pytest.skip(f"the kernel here cannot do it: {trace}")
    done = bash(f'{prepare}; {trace.replace(trace.split()[0], tool, 1)}; untouched "$before" "afterwards"', *own)
    assert done.returncode == (0 if shown is None else 1), done.stderr
    if shown is not None:
        assert "not as it was before the engine came (afterwards)" in done.stderr
        assert any(line.startswith("> ") and shown in line for line in done.stderr.splitlines())

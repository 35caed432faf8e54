"""Launchers that are written down in TOML."""

import subprocess
import sys

import pytest

from procession import launchers
from procession.actor import this_host
from procession.errors import InvalidArgument


def written(folder, text):
    file = folder / "mine.toml"
    file.write_text(text)
    return file


def test_a_file_gives_the_same_object_as_its_class_does(tmp_path):
    file = written(
        tmp_path,
        'launcher = "docker"\nimage = "trainer:7"\ngpus = ["all"]\n[tmpfs]\n"/scratch" = "size=64m"\n[patch.HostConfig]\nCapAdd = ["A"]\n',
    )
    same = launchers.Docker(
        "trainer:7", gpus=["all"], tmpfs={"/scratch": "size=64m"}, patch={"HostConfig": {"CapAdd": ["A"]}}
    )
    assert launchers.from_file(file).config == same.config
    assert launchers.by_name(str(file)).config == same.config
    podman = launchers.from_file(written(tmp_path, 'launcher = "podman"\nimage = "a"\nvolumes = ["/a:/b"]\n'))
    assert (type(podman), podman.config["volumes"]) == (launchers.Podman, ["/a:/b"])


def test_launchers_around_others_have_these_in_tables(tmp_path):
    text = 'launcher = "throttle"\nat_once = 2\n[of]\nlauncher = "command"\ncommand = "nice {argv}"\n'
    text = text.replace("[of]\n", f"[of]\nagent = ['{sys.executable}', '-m', 'procession', 'agent', '--stdio']\n")
    launcher = launchers.from_file(written(tmp_path, text))
    assert isinstance(launcher, launchers.Throttle)
    with this_host().spawn_procs(
        {"x": 3}, launcher=launcher, bootstrap_command=["sh", "-c", "exit 5"], readiness="none"
    ) as procs:
        assert [exit.exit_code for exit in procs.wait(timeout=50).get().values()] == [5, 5, 5]
    text = 'launcher = "fallback"\n[[of]]\nlauncher = "slurm"\n[[of]]\nlauncher = "docker"\nimage = "a"\n'
    assert isinstance(launchers.from_file(written(tmp_path, text)), launchers.Fallback)


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("launcher =", "launcher", "it is no TOML"),
        ("", "launcher", "name one of chain, chaos, command, docker"),
        ('launcher = "doker"', "launcher", "name one of"),
        ('launcher = "docker"', "image", "docker needs it"),
        ('launcher = "docker"\nimage = "a"\nvolume = []', "volume", "docker has no such key; it has image, host"),
        ('launcher = "docker"\nimage = "a"\npull = "often"', "pull", '"missing", "always" or "never"'),
        ('launcher = "ssh"\nhost = "a"\n[of]\nlauncher = "slurm"', "of", "ssh goes around no other launcher"),
        ('launcher = "retry"', "of", "retry goes around others"),
    ],
)
def test_what_is_wrong_in_a_file_is_refused_by_its_key_and_with_the_file(tmp_path, text, field, rule):
    file = written(tmp_path, text)
    with pytest.raises(InvalidArgument) as refused:
        launchers.from_file(file)
    assert refused.value.field == field
    assert rule in refused.value.rule
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(InvalidArgument, match=r"no-such\.toml.*No such file"):
        launchers.by_name("/no-such.toml")


def test_the_command_shows_what_a_launcher_takes():
    command = [sys.executable, "-m", "procession", "launchers"]
    done = subprocess.run([*command, "ssh"], capture_output=True, text=True, timeout=30, check=True)
    assert "host: the destination as `ssh` takes it" in done.stdout
    assert "    host: has to be given\n" in done.stdout
    assert "    python: 'python3'\n" in done.stdout
    unknown = subprocess.run([*command, "shh"], capture_output=True, text=True, timeout=30)
    assert (unknown.returncode, "give one of chain, chaos" in unknown.stderr) == (2, True)

"""Units outlive the client that has launched them, and the next one goes on with them."""

import re
import subprocess
import sys

import pytest

import outliving
from managers import shown, units

BOTH = pytest.mark.parametrize("bus", ["user", "system"])


@BOTH
def test_the_next_client_finds_the_actors_as_they_were(bus):
    outliving.the_next_client_finds_the_actors_as_they_were(f"Systemd({bus!r})")


@BOTH
def test_the_exit_and_output_of_what_ended_between_two_clients_are_known(bus):
    outliving.the_exit_and_output_of_what_ended_between_two_clients_are_known(f"Systemd({bus!r})", sys.executable)


def test_what_outlives_its_client_is_not_collected_as_left_over_and_takes_its_files_along_when_it_ends():
    with outliving.Outliving("Systemd()") as clients:
        clients.killed("""
            spawn("c", {"p": 1}).initialized.get(40)
            tell()
        """)
        subprocess.run([sys.executable, "-m", "procession", "gc"], check=True, capture_output=True, timeout=50)
        [unit] = units()
        assert shown(unit, "SubState") == "running"
        files = clients.directory / "out"
        assert {f"{unit}.out", f"{unit}.err"} <= {file.name for file in files.iterdir()}
        clients.run("""
            meshes["c"].kill().get(30)
            meshes["c"].wait().get(30)
        """)
        assert not list(files.glob("procession-*"))


def test_what_names_its_session_is_taken_away_with_its_files():
    with outliving.Outliving("Systemd()") as clients:
        clients.killed("""
            procs = spawn("t", {"p": 1}, readiness="none", bootstrap_command=["/bin/sleep", "60"])
            until(lambda: [one.handle for one in procs.statuses().values()][0])
            tell()
        """)
        [unit] = units()
        session = re.search(r"PROCESSION_SESSION=(\S+)", shown(unit, "LogExtraFields"))[1]
        command = [sys.executable, "-m", "procession", "gc", "--session", session]
        subprocess.run(command, check=True, capture_output=True, timeout=50)
        assert units() == []
        assert not list((clients.directory / "out").glob("procession-*"))

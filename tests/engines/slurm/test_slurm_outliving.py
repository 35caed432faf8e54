"""Jobs outlive the client that has launched them, and the next one goes on with them."""

import sys

import outliving

LAUNCHER = "Slurm('all', output_dir={!r}, poll=0.2)"


def test_the_next_client_finds_the_actors_as_they_were(tmp_path):
    outliving.the_next_client_finds_the_actors_as_they_were(LAUNCHER.format(str(tmp_path)))


def test_the_exit_and_output_of_what_ended_between_two_clients_are_known(tmp_path):
    launcher = LAUNCHER.format(str(tmp_path))
    outliving.the_exit_and_output_of_what_ended_between_two_clients_are_known(launcher, sys.executable)

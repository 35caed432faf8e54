"""Containers outlive the client that has launched them, and the next one goes on with them."""

import os
import socket
import subprocess
import sys

import outliving
from cut import way

NAME = "Podman" if "podman" in os.environ["DOCKER_HOST"] else "Docker"
LAUNCHER = f"{NAME}(image={os.environ['DOCKER_IMAGE']!r}, pull='never', host={os.environ['DOCKER_HOST']!r})"


def test_the_next_client_finds_the_actors_as_they_were(engine):
    outliving.the_next_client_finds_the_actors_as_they_were(LAUNCHER)


def test_the_exit_and_output_of_what_ended_between_two_clients_are_known(engine):
    outliving.the_exit_and_output_of_what_ended_between_two_clients_are_known(LAUNCHER, "python3")


def test_what_outlives_its_client_is_not_collected_as_left_over(engine):
    with outliving.Outliving(LAUNCHER) as clients:
        clients.killed("""
            spawn("c", {"p": 1}).initialized.get(40)
            tell()
        """)
        subprocess.run([sys.executable, "-m", "procession", "gc"], check=True, capture_output=True, timeout=50)
        [container] = engine.containers()
        assert container["State"]["Running"]
        assert container["Config"]["Labels"]["procession.process"] == "detached"


def test_a_client_that_cannot_reach_the_engine_loses_nothing_and_one_that_is_configured_otherwise_asks_the_same_one(
    engine, tmp_path, monkeypatch
):
    with way(tmp_path / "way", os.environ["DOCKER_HOST"].removeprefix("unix://")) as engine_way:
        image = os.environ["DOCKER_IMAGE"]
        launcher = f"{NAME}(image={image!r}, pull='never', host=os.environ['ENGINE'])"
        monkeypatch.setenv("ENGINE", f"unix://{engine_way.path}")
        with outliving.Outliving(launcher) as clients:
            before = clients.killed("""
                counters = spawn("c", {"p": 1}).spawn("counter", Counter)
                tell(first=list(counters.add.call_one().get(40)))
            """)
            monkeypatch.setenv("ENGINE", "unix:///nowhere")
            engine_way.cut()
            refused = clients.run(
                """
                try: reattach(directory)
                except RuntimeError as error: tell(error=str(error))
                """,
                reattaches=False,
            )
            assert "what docker has launched for an earlier host cannot be taken over" in refused["error"]
            assert str(engine_way.path) in refused["error"]
            engine_way.mend()
            after = clients.run("""
                counter = meshes["c"].find("counter", Counter).get(30).slice(p=0)
                tell(second=list(counter.add.call_one().get(30)))
            """)
            assert after["second"] == [before["first"][0], 2]


def test_files_that_rotate_are_refused_before_anything_starts(engine):
    with outliving.Outliving(LAUNCHER) as clients:
        refused = clients.run("""
            try: spawn("c", {"p": 1}, log_max_bytes=1 << 20)
            except ValueError as error: tell(error=str(error))
        """)
    assert refused["error"].startswith("log_max_bytes = 1048576")


def test_a_client_whose_port_is_taken_is_told_so_and_the_next_one_is_found_again(engine):
    with outliving.Outliving(LAUNCHER) as clients:
        before = clients.killed("""
            counters = spawn("c", {"p": 1}).spawn("counter", Counter)
            first = list(counters.add.call_one().get(40))
            own = {os.stat(f"/proc/self/fd/{fd}").st_ino for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
            rows = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
            [address] = [row[1] for row in rows if row[3] == "0A" and int(row[9]) in own]
            tell(first=first, address=address)
        """)
        host, port = before["address"].split(":")
        taken = (socket.inet_ntoa(bytes.fromhex(host)[::-1]), int(port, 16))
        with socket.create_server(taken):
            refused = clients.run(
                """
                try: reattach(directory)
                except RuntimeError as error: tell(error=str(error))
                """,
                reattaches=False,
            )
        assert "procs of an earlier host would not find this one" in refused["error"]
        assert f":{taken[1]}" in refused["error"]
        after = clients.run("""
            counter = meshes["c"].find("counter", Counter).get(30).slice(p=0)
            tell(second=list(counter.add.call_one().get(30)))
        """)
        assert after["second"] == [before["first"][0], 2]

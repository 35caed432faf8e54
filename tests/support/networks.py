"""Two network namespaces with a cable between them, and ways to break it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


class Cable:
    """Between the namespace `here`, with the address HERE, and the namespace `there`, with the address THERE."""

    HERE, THERE = "10.213.7.1", "10.213.7.2"

    def __init__(self, here: str, there: str) -> None:
        self.here, self.there = here, there

    def unplug(self) -> None:
        ip("-n", self.here, "link", "set", "cable", "down")

    def plug(self) -> None:
        ip("-n", self.here, "link", "set", "cable", "up")

    def drop(self, at: str) -> None:
        """From now on nothing comes in at one end; what goes out there still arrives."""
        rules = "add table inet broken; add chain inet broken in { type filter hook input priority 0; }; "
        rules += "add rule inet broken in iifname cable drop"
        done = subprocess.run(["ip", "netns", "exec", at, "nft", rules], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def let_pass(self, at: str) -> None:
        done = subprocess.run(["ip", "netns", "exec", at, "nft", "delete table inet broken"], capture_output=True)
        assert done.returncode == 0, done.stderr


@contextmanager
def cable() -> Iterator[Cable]:
    here, there = (f"gate-{os.getpid()}-{end}" for end in "ab")
    made = []
    try:
        for name in (here, there):
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
            if done.returncode != 0:
                pytest.skip("capability: netns")
            made.append(name)
        ip("-n", here, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", there)
        for name, address in ((here, Cable.HERE), (there, Cable.THERE)):
            ip("-n", name, "address", "add", f"{address}/30", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield Cable(here, there)
    finally:
        for name in made:
            ip("netns", "del", name)

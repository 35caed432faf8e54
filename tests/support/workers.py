"""Machines that are served, which are this one as far as most tests are concerned."""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

PROCESSION = [sys.executable, "-m", "procession"]


class Worker:
    """`procession serve --listen`, in a process of its own."""

    def __init__(self, key, *options, listen="127.0.0.1:0", before=()):
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # until it is closed
        command = [*before, *PROCESSION, "serve", "--listen", listen, "--key-file", str(key), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._said, text=True)
        line = self.process.stdout.readline().split()
        assert line[:1] == ["serving"], (line, self.said())
        self.address = line[1].removeprefix("tcp://")
        # Behind a command that runs it elsewhere it is another process.
        self.pid = int(line[4])

    def said(self):
        """What it has warned of."""
        self._said.seek(0)
        return self._said.read()

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self):
        return self.process.wait(30)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.wait()
        self.process.stdout.close()
        self._said.close()


def make_key(folder):
    path = Path(folder) / "key"
    subprocess.run([*PROCESSION, "key", str(path)], check=True)
    return path


@contextmanager
def serving(key, *options, **how):
    worker = Worker(key, *options, **how)
    try:
        yield worker
    finally:
        worker.close()

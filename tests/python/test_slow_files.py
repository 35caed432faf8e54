"""Files that do not answer, as on a network file system that is away: they hold up who wants them and nobody else."""

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from procession.launch import supervise

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


@contextlib.contextmanager
def unanswered(path):
    """To open `path` blocks until the end of this; SIGIO is how the kernel asks for it."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield
    finally:
        os.close(file)
        signal.signal(signal.SIGIO, before)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\nexit 7\n")
    path.chmod(0o755)
    return path


def exit_code(*argv):
    async def main():
        process = await supervise(argv=argv)
        code = (await process.wait()).exit_code
        await process.kill()
        return code

    return asyncio.run(main())


def test_a_program_that_cannot_be_read_yet_holds_up_its_own_start_only(program):
    with ThreadPoolExecutor() as pool:
        with unanswered(program):
            slow = pool.submit(exit_code, program)
            assert exit_code("/bin/sh", "-c", "exit 3") == 3
            assert not slow.done()
        assert slow.result(30) == 7


def test_a_start_that_is_interrupted_leaves_nothing(program):
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    with unanswered(program):
        interrupt = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            supervise(argv=[program]).send(None)  # without a loop, which would have a handler of its own
        interrupt.join()

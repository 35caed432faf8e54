"""Files that do not answer, as on a network file system that is away: they hold up who wants them and nobody else."""

import asyncio
import contextlib
import fcntl
import os
import signal

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


def test_a_program_that_cannot_be_read_yet_holds_up_its_own_start_only(program):
    async def main():
        with unanswered(program):
            slow = asyncio.create_task(supervise(argv=[program]))
            await asyncio.sleep(0)
            other = await supervise(argv=["/bin/sh", "-c", "exit 3"])
            assert (await other.wait()).exit_code == 3
            await other.kill()
            assert not slow.done()
        return (await (await slow).wait()).exit_code

    assert asyncio.run(main()) == 7


def test_a_start_that_is_cancelled_leaves_nothing(program):
    program.write_text("#!/bin/sh\nexec sleep 1000\n")

    async def main():
        with unanswered(program):
            slow = asyncio.create_task(supervise(argv=[program]))
            await asyncio.sleep(0)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow

    asyncio.run(main())

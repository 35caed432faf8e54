"""Running an OS process the right way from asyncio."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from launching import until
from procession.errors import InvalidArgument
from procession.launch import LaunchOptions, supervise

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


def run(command, **kwargs):
    async def main():
        process = await supervise(argv=["/bin/sh", "-c", command], **kwargs)
        return await process.wait()

    return asyncio.run(main())


def test_exit_codes_signals_and_last_words():
    result = run("echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.signal, result.failed_reason, result.stderr_tail) == (3, None, None, ["err"])
    assert run("kill -9 $$").signal == 9


def test_it_takes_what_launch_options_ask_for(tmp_path):
    options = LaunchOptions(
        "payload",
        "name",
        "/bin/sh",
        "my-shell",
        ["-c", 'echo "$0 $A $PROCESSION_BOOTSTRAP $PWD" >&2'],
        {"A": "1"},
        False,
        5,
        None,
    )
    options.cwd = str(tmp_path)

    async def main():
        return await (await supervise(options)).wait()

    assert asyncio.run(main()).stderr_tail == [f"my-shell 1 payload {tmp_path}"]


def test_argv_and_env_stand_for_those_of_the_options():
    options = LaunchOptions("payload", "name", "/bin/false", None, [], {}, False, 5, None)

    async def main():
        process = await supervise(options, argv=["/bin/sh", "-c", 'echo "$A" >&2'], env={"A": "own"})
        return await process.wait()

    assert asyncio.run(main()).stderr_tail == ["own"]


def test_all_who_wait_get_the_same_result():
    async def main():
        process = await supervise(argv=["/bin/sh", "-c", "exit 5"])
        waits = [asyncio.create_task(process.wait()) for _ in range(20)]
        waits[0].cancel()
        results = await asyncio.gather(*waits[1:])
        return {one.exit_code for one in [*results, await process.wait()]}

    assert asyncio.run(main()) == {5}


@pytest.mark.fault("F12")
def test_terminate_escalates(tmp_path):
    ready = tmp_path / "ready"

    async def main():
        code = "import pathlib, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path(sys.argv[1]).touch(); signal.pause()"
        process = await supervise(argv=[sys.executable, "-c", code, ready])
        await asyncio.to_thread(until, ready.exists)
        await process.terminate(0.1)
        return await process.wait()

    assert asyncio.run(main()).signal == signal.SIGKILL


@pytest.mark.fault("F9")
def test_kill_takes_the_whole_tree(tmp_path):
    pids = tmp_path / "pids"

    async def main():
        command = f"setsid sleep 60 & echo $! > {pids}; sleep 60"
        process = await supervise(argv=["/bin/sh", "-c", command])
        await asyncio.to_thread(until, lambda: pids.exists() and pids.read_text().endswith("\n"))
        await process.kill()
        return await process.wait()

    assert asyncio.run(main()).signal == 9
    daemon = Path(f"/proc/{pids.read_text().strip()}/stat")
    # Whoever adopted it may not have looked at its zombie yet.
    assert not daemon.exists() or daemon.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.fault("F56")
def test_output_without_end_is_read_in_bounded_memory():
    result = run("head -c 20000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo last >&2; exit 1", tail_lines=3)
    assert (result.exit_code, result.stderr_tail[-1]) == (1, "last")
    assert sum(map(len, result.stderr_tail)) < 100_000


@pytest.mark.fault("F8")
@pytest.mark.fault("F56")
def test_a_grandchild_that_holds_the_pipes_does_not_hold_up_the_exit():
    assert run("setsid sleep 1000 & exit 4").exit_code == 4


@pytest.mark.parametrize("program", ["/no/such/program", "/etc/passwd"])
def test_a_program_that_cannot_be_run_is_an_oserror_that_names_it(program):
    with pytest.raises(OSError, match=program):
        asyncio.run(supervise(argv=[program]))


def test_it_needs_something_to_run():
    with pytest.raises(TypeError, match="needs opts, or argv"):
        asyncio.run(supervise())
    for argv in ([], "ls", [3]):
        with pytest.raises(InvalidArgument):
            asyncio.run(supervise(argv=argv))

"""Notebooks, event loops, fork servers and test runners: whatever the client's process is."""

import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.fault("F85")

ACTOR = """
    import asyncio, os, sys
    from procession.actor import Actor, endpoint, shutdown_context, this_host

    class Adder(Actor):
        @endpoint
        async def add(self, a, b):
            await asyncio.sleep(0)
            return a + b

        @endpoint
        async def hang(self):
            await asyncio.Event().wait()
"""


def test_two_event_loops_of_one_process_share_its_runtime(script):
    script(
        ACTOR
        + """
    import threading

    procs = this_host().spawn_procs()
    adder = procs.spawn("adder", Adder)

    async def ask(count):
        asked = [adder.add.call_one(n, 1) for n in range(count)]
        assert await asyncio.gather(*asked) == list(range(1, count + 1))

    # One after the other, then two at once.
    asyncio.run(ask(10))
    asyncio.run(ask(10))
    failed = []
    def run():
        try:
            asyncio.run(ask(100))
        except BaseException as error:
            failed.append(error)
    both = [threading.Thread(target=run) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert failed == []
    """
    )


def test_an_event_loop_that_ends_with_answers_under_way_takes_nothing_along(script):
    script(
        ACTOR
        + """
    procs = this_host().spawn_procs()
    adder = procs.spawn("adder", Adder)

    async def leaves():
        for n in range(50):
            asyncio.ensure_future(adder.add.call_one(n, n))
        await asyncio.sleep(0)

    asyncio.run(leaves())
    assert adder.add.call_one(1, 1).get(30) == 2
    """
    )


def test_uvloop_is_a_loop_as_any_other(script):
    script(
        ACTOR
        + """
    import uvloop

    async def main():
        async with this_host().spawn_procs(per_host={"gpus": 2}) as procs:
            await procs.initialized
            adder = procs.spawn("adder", Adder)
            assert list((await adder.add.call(1, 2)).values()) == [3, 3]
        return type(asyncio.get_running_loop()).__module__

    assert uvloop.run(main()) == "uvloop"
    """
    )


def test_a_child_of_a_fork_server_has_a_runtime_of_its_own_beside_that_of_its_parent(script):
    script(
        ACTOR
        + """
    import multiprocessing

    def work(queue):
        with this_host().spawn_procs() as procs:
            queue.put(procs.spawn("adder", Adder).add.call_one(2, 3).get(30))
        shutdown_context().get(30)

    if __name__ == "__main__":
        multiprocessing.set_forkserver_preload(["procession.actor", "procession._native"])
        with this_host().spawn_procs() as procs:
            adder = procs.spawn("adder", Adder)
            for method in ("forkserver", "spawn"):
                context = multiprocessing.get_context(method)
                queue = context.Queue()
                children = [context.Process(target=work, args=(queue,)) for _ in range(2)]
                for child in children:
                    child.start()
                assert [queue.get(timeout=30) for _ in children] == [5, 5]
                for child in children:
                    child.join(30)
                    assert child.exitcode == 0
            assert adder.add.call_one(1, 1).get(30) == 2
        if (server := multiprocessing.forkserver._forkserver)._forkserver_pid:
            server._stop()
        multiprocessing.resource_tracker._resource_tracker._stop()
    """
    )


def test_a_child_that_was_forked_from_a_process_with_a_runtime_is_refused_clearly(script):
    script(
        ACTOR
        + """
    import multiprocessing, warnings

    def work(queue):
        try:
            this_host().spawn_procs()
        except RuntimeError as error:
            queue.put(str(error))

    with this_host().spawn_procs() as procs:
        procs.initialized.get(30)
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        warnings.simplefilter("ignore")
        child = context.Process(target=work, args=(queue,))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert "ForkedRuntime" in (text := queue.get()) and "spawn" in text, text
        assert procs.spawn("adder", Adder).add.call_one(1, 1).get(30) == 2
    """
    )


KERNEL = """
import ast, json, sys, traceback

# As a notebook's kernel does: a loop runs all the time, each cell is compiled for itself, with await at its top.
import asyncio, inspect

async def serve():
    names = {"__name__": "__main__"}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            for node in ast.parse(json.loads(line)).body:
                code = compile(ast.Interactive([node]), "<cell>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                if inspect.iscoroutine(coroutine := eval(code, names)):
                    await coroutine
            print("done", flush=True)
        except BaseException:
            print("failed", json.dumps(traceback.format_exc()), flush=True)

asyncio.run(serve())
"""


class Kernel:
    """A process that runs cells in one event loop; restarted, it is killed as a notebook does it."""

    def __init__(self, path):
        path.write_text(KERNEL)
        self.path = path
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, str(self.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, cell):
        self.process.stdin.write(json.dumps(textwrap.dedent(cell)) + "\n")
        self.process.stdin.flush()
        said = []
        while not (line := self.process.stdout.readline()).startswith(("done", "failed")):
            assert line, said
            said.append(line.strip())
        assert line == "done\n", json.loads(line.removeprefix("failed"))
        return said

    def end(self, kill=False):
        if kill:
            self.process.kill()
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


SPAWN = (
    textwrap.dedent(ACTOR)
    + """
procs = this_host().spawn_procs()
await procs.initialized
adder = procs.spawn("adder", Adder)
print(procs.statuses().item().pid)
"""
)


def test_cells_of_a_notebook_can_await_and_a_kernel_that_is_restarted_leaves_nothing_to_the_next(tmp_path):
    kernel = Kernel(tmp_path / "kernel.py")
    try:
        first = kernel.run(SPAWN)[-1]
        assert kernel.run("print(await adder.add.call_one(1, 2))")[-1:] == ["3"]
        (refused,) = kernel.run(
            """
            try:
                adder.hang.call_one().get(30)
            except Exception as error:
                print(error)
            """
        )
        assert "await the future instead" in refused
        # A cell that is run again defines its actor again.
        assert kernel.run(SPAWN)[-1] != first
        kernel.end(kill=True)
        kernel.start()
        kernel.run(SPAWN)
        assert kernel.run("print(await adder.add.call_one(3, 4))")[-1:] == ["7"]
    finally:
        kernel.end()


TESTS = """
import pytest
from procession.actor import Actor, endpoint, this_host

class Adder(Actor):
    @endpoint
    def add(self, a, b):
        return a + b

@pytest.fixture(scope="module")
def procs():
    with this_host().spawn_procs() as procs:
        yield procs

@pytest.mark.parametrize("n", range(6))
def test_adds(procs, n):
    assert procs.spawn(f"adder{n}", Adder).add.call_one(n, 1).get(30) == n + 1

def test_exits():
    procs = this_host().spawn_procs(bootstrap_command=["/bin/sh", "-c", "exit 3"], readiness="none")
    assert procs.wait(30).get().item().exit_code == 3
"""


def test_a_test_runner_with_several_workers_has_a_host_in_each(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout

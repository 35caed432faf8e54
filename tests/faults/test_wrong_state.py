"""Calls that come too early, too late, twice, from the wrong place: each works, or says what is wrong, and none hangs."""

import asyncio
import os
import threading
import time

import pytest

from launching import CLEAN, Supervising, only_exit, spawn, until
from procession import launchers
from procession.actor import Actor, endpoint, this_host, this_proc
from procession.errors import LaunchFailed, WrongContext
from procession.launch import ProcExitResult, ProcLauncher

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

SLEEPER = {"bootstrap_command": ["sleep", "1000"], "readiness": "none"}


def sleeper(**kwargs):
    return this_host().spawn_procs(**{**SLEEPER, **kwargs})


@pytest.mark.parametrize("how", ["terminate", "kill"])
@pytest.mark.parametrize("through", ["native", "a launcher"])
def test_bad_input_a_stop_before_the_launch_is_finished_cancels_it_with_one_exit(spawned, how, through):
    launcher = spawned(Supervising) if through == "a launcher" else None
    for _ in range(5):
        procs = sleeper(launcher=launcher)
        asked = procs.terminate(0.5) if how == "terminate" else procs.kill()
        asked.get(20)
        one = only_exit(procs)
        assert how in one.requested
        # Lost: killed from here before its launcher knew that it had started it.
        assert one.kind in ("signaled", "lost") or "cancelled before start" in one.failed_reason


def test_bad_input_of_two_terminates_the_shorter_timeout_holds_and_both_get_the_same(tmp_path):
    os.mkfifo(tmp_path / "ready")
    deaf = ["/bin/sh", "-c", f"trap '' TERM; echo > {tmp_path / 'ready'}; while :; do sleep 1; done"]
    procs = sleeper(bootstrap_command=deaf)
    (tmp_path / "ready").read_text()
    begun = time.monotonic()
    long, short = procs.terminate(600), procs.terminate(0.3)
    assert [long.get(20), short.get(20)] == [None, None]
    one = only_exit(procs)
    assert (one.signal, time.monotonic() - begun < 20) == (9, True)


def test_bad_input_a_kill_after_the_exit_is_fine_and_the_exit_stays():
    procs = sleeper(bootstrap_command=["sh", "-c", "exit 3"])
    one = only_exit(procs)
    for _ in range(3):
        assert [procs.kill().get(5), procs.terminate(1).get(5), procs.stop().get(5)] == [None] * 3
        assert procs.exits().item() == one == procs.wait(0).get().item()
    assert one.requested is None


def test_bad_input_a_thousand_waiters_get_the_same_exit_whoever_of_them_gives_up():
    procs = sleeper()
    procs.initialized.get(20)

    async def wait():
        waits = [asyncio.ensure_future(wait_once()) for _ in range(1000)]
        await asyncio.sleep(0)
        for one in waits[::2]:
            one.cancel()
        await procs.kill()
        return await asyncio.gather(*waits, return_exceptions=True)

    async def wait_once():
        return (await procs.wait()).item()

    ended = asyncio.run(wait())
    one = ended[1]
    assert all(isinstance(given, asyncio.CancelledError) for given in ended[::2])
    assert all(given == one for given in ended[1::2])
    assert one.signal == 9


def test_bad_input_readiness_after_the_exit_fails_at_once_with_the_exit():
    procs = this_host().spawn_procs(bootstrap_command=["sh", "-c", "exit 3"])
    only_exit(procs)
    begun = time.monotonic()
    with pytest.raises(LaunchFailed, match="exit code 3"):
        procs.initialized.get(20)
    assert time.monotonic() - begun < 5


class Reporting(Supervising):
    """Answers as its params say, and keeps what came of it."""

    async def launch(self, exit_port, proc_id, opts):
        self.said = []
        for call in self.params["calls"]:
            try:
                call(exit_port)
            except Exception as error:
                self.said.append(f"{type(error).__name__}: {error}")

    @endpoint
    async def what_was_said(self):
        return self.said


def send(port):
    port.send(CLEAN)


def send_exception(port):
    port.exception(OSError("no"))


def send_from_a_thread(port):
    thread = threading.Thread(target=port.send, args=(CLEAN,))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("calls", "kind", "said"),
    [
        ([send, send], "exited", ["RuntimeError: AlreadyReported"]),
        ([send_exception, send], "failed", ["RuntimeError: AlreadyReported"]),
        ([send, send_exception], "exited", ["RuntimeError: AlreadyReported"]),
        ([send_from_a_thread], "exited", []),
    ],
    ids=["twice", "after an exception", "an exception after it", "from a thread"],
)
def test_bad_input_an_exit_port_takes_one_answer(spawned, calls, kind, said):
    launcher = spawned(Reporting, {"calls": calls})
    assert only_exit(spawn(launcher, "true")).kind == kind
    heard = launcher.what_was_said.call_one().get(10)
    assert [text[: len(start)] for text, start in zip(heard, said, strict=True)] == said


def test_bad_input_an_exit_port_that_is_dropped_is_reported_soon(spawned):
    launcher = spawned(Reporting, {"calls": []})
    begun = time.monotonic()
    one = only_exit(spawn(launcher, "true"))
    assert time.monotonic() - begun < 10
    assert one.failed_reason.startswith("exit port closed (spawner crashed or forgot to send): PortDropped: ")


AFTER_THE_HOST = """
from procession.actor import this_host, this_proc, shutdown_context
from procession.launch import ProcExitResult, ProcLauncher

kept = []

class Keeping(ProcLauncher):
    async def launch(self, exit_port, proc_id, opts):
        kept.append(exit_port)

    async def terminate(self, proc_id, timeout_secs): ...
    async def kill(self, proc_id): ...

launcher = this_proc().spawn("keeping", Keeping)
procs = this_host().spawn_procs(launcher=launcher, bootstrap_command=["true"], readiness="none")
procs.initialized.get(20)
first, second = shutdown_context(), shutdown_context()
print(first.get(), second.get())
for call in (
    lambda: kept[0].send(ProcExitResult(0, None, False, None, [])),
    lambda: this_host().spawn_procs(),
    lambda: this_proc().spawn("late", Keeping),
):
    try:
        call()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
print(procs.exits().item().kind)
"""


def test_bad_input_after_a_shutdown_ports_say_that_the_host_is_gone_and_launches_are_refused(script):
    said = script(AFTER_THE_HOST).stdout.splitlines()
    assert said[0] == "None None"
    assert said[1].startswith("ConnectionError: HostGone: ")
    assert said[2].startswith("RuntimeError: ShuttingDown: ")
    assert said[3].startswith("RuntimeError: ShuttingDown: ")
    assert said[4] in ("lost", "failed")


IN_HANDLERS = """
import asyncio, atexit, os, signal, sys, threading
from procession.actor import Actor, endpoint, this_host, this_proc, shutdown_context

class Ending(Actor):
    @endpoint
    def end_all(self):
        shutdown_context().get()
        return "ended"

procs = this_host().spawn_procs(bootstrap_command=["sleep", "1000"], readiness="none")
procs.initialized.get(20)
said = []

class Finalised:
    def __del__(self):
        said.append(str(procs.statuses().item()))

signal.signal(signal.SIGUSR1, lambda *_: said.append(str(procs.statuses().item())))
del_me = Finalised()
del del_me
os.kill(os.getpid(), signal.SIGUSR1)

async def from_a_loop():
    return str(procs.statuses().item()), await procs.kill()

said.append(asyncio.run(from_a_loop())[0])
thread = threading.Thread(target=lambda: said.append(str(asyncio.run(wait()))))

async def wait():
    return (await procs.wait(20)).item().kind

thread.start()
thread.join()
print(said, flush=True)
if sys.argv[1] == "atexit":
    atexit.register(lambda: print("at exit", procs.exits().item().kind, flush=True))
else:
    print(this_proc().spawn("ending", Ending).end_all.call_one().get(20), flush=True)
"""


def test_bad_input_calls_from_signal_handlers_finalisers_loops_and_atexit_work(script):
    said = script(IN_HANDLERS, "atexit").stdout.splitlines()
    assert said == ["['running', 'running', 'running', 'signaled']", "at exit signaled"]


def test_bad_input_a_shutdown_inside_of_an_endpoint_does_not_hang(script):
    done = script(IN_HANDLERS, "endpoint", check=False, timeout=40)
    assert "['running', 'running', 'running', 'signaled']" in done.stdout


def test_bad_input_blocking_calls_are_refused_on_an_event_loop_with_a_hint():
    class Fresh(Supervising):
        """One that no other test has registered."""

    with this_host().spawn_procs() as procs:
        procs.initialized.get(30)

        async def block():
            for call in (
                lambda: procs.wait().get(),
                lambda: procs.stop().get(),
                lambda: launchers.register(Fresh).get(),
            ):
                with pytest.raises(WrongContext, match="await the future instead"):
                    call()

        asyncio.run(block())
    launchers.register(Fresh).get(30)


class NoLauncher(Actor):
    @endpoint
    def launch(self): ...


@pytest.mark.parametrize("given", [NoLauncher, NoLauncher(), Supervising(), "docker", 3, object()])
def test_bad_input_what_is_no_launcher_is_refused_by_type(given):
    with pytest.raises(TypeError, match="launcher = "):
        spawn(given, "true")
    if not isinstance(given, type):
        with pytest.raises(TypeError, match="has to be a class"):
            launchers.register(given)


def test_bad_input_a_launcher_that_is_registered_twice_is_one():
    first, second = launchers.register(Supervising), launchers.register(Supervising)
    assert [first.get(30), second.get(30)] == [None, None]
    procs = [spawn(Supervising, "exit 0", name=f"p{n}") for n in range(2)]
    assert all(only_exit(one).ok for one in procs)


def test_bad_input_an_actor_name_may_be_used_twice_because_each_actor_has_an_address_of_its_own(spawned):
    one, other = spawned(Supervising), spawned(Supervising)
    assert [only_exit(spawn(launcher, "exit 0")).ok for launcher in (one, other)] == [True, True]


def test_bad_input_a_launch_while_the_session_ends_is_refused(script):
    done = script(
        """
        import threading, time
        from procession.actor import this_host, shutdown_context
        from procession._runtime import runtime

        deaf = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]
        procs = this_host().spawn_procs(bootstrap_command=deaf, readiness="none", stop_grace=60)
        assert next(iter(procs.logs(follow=True))) == "[0] up"
        ending = threading.Thread(target=shutdown_context)
        ending.start()
        while str(procs.statuses().item()) != "stopping":
            time.sleep(0.001)
        try:
            this_host().spawn_procs()
        except RuntimeError as error:
            print(error)
        ending.join()
        """
    )
    assert done.stdout.startswith("ShuttingDown: ")


class Late(ProcLauncher):
    """Begins its launch when the test says so."""

    def __init__(self, params=None):
        super().__init__(params)
        self.ports = {}

    async def launch(self, exit_port, proc_id, opts):
        self.ports[proc_id] = exit_port

    async def terminate(self, proc_id, timeout_secs): ...

    async def kill(self, proc_id):
        self.ports.pop(proc_id).send(ProcExitResult(None, 9, False, None, []))


def test_bad_input_a_hundred_stops_at_once_give_one_exit(spawned):
    procs = spawn(spawned(Late), "true")
    procs.initialized.get(20)
    futures = [call for _ in range(100) for call in (procs.terminate(0.2), procs.kill())]
    for future in futures:
        assert future.get(20) is None
    assert only_exit(procs).signal == 9
    until(lambda: procs.statuses().item().status == "signaled")


def test_bad_input_this_process_is_no_place_to_stop_procs_of():
    with pytest.raises(NotImplementedError, match="launched by another process"):
        this_proc().kill()

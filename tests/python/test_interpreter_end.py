"""How programs that use the package begin, fork and end."""

import os
import signal
import subprocess
import sys

import pytest

PRELUDE = """
import asyncio, os, sys, threading, time
from procession.actor import Actor, endpoint, this_host, this_proc, shutdown_context

class Pids(Actor):
    @endpoint
    def pid(self):
        return os.getpid()

    @endpoint
    def sleep(self):
        time.sleep(60)

def main():
    procs = this_host().spawn_procs(per_host={"x": 2})
    pids = list(procs.spawn("pids", Pids).pid.call().get(30).values())
    print(*pids, flush=True)
    return procs
"""


def alive(pid):
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("main()", 0),
        ("main(); sys.exit(7)", 7),
        ("main(); raise KeyError('x')", 1),
        ("procs = main(); procs.spawn('p', Pids).sleep.broadcast()", 0),
        ("main(); this_proc().spawn('p', Pids).sleep.broadcast()", 0),
        ("main(); shutdown_context().get(); shutdown_context().get()", 0),
        ("asyncio.run(asyncio.sleep(0, main()))", 0),
        ("threading.Thread(target=main).start()", 0),
    ],
)
def test_the_end_of_a_program_stops_everything_and_keeps_its_code(script, end, code):
    done = script(PRELUDE + f'if __name__ == "__main__":\n    {end}\n', check=False)
    pids = done.stdout.split()
    assert (done.returncode, len(pids)) == (code, 2), done.stderr
    assert not any(alive(pid) for pid in pids)
    assert ("Traceback" in done.stderr) == ("raise" in end)


@pytest.mark.fault("F30")
@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)"])
def test_a_program_that_ends_at_once_leaves_nothing_behind(script, end):
    # What is left is found by the leak gate, which gives it two seconds.
    done = script(PRELUDE + f'if __name__ == "__main__":\n    main(); {end}\n', check=False)
    assert len(done.stdout.split()) == 2, done.stderr


def test_classes_of_the_main_script_travel_by_value(script):
    done = script(
        PRELUDE
        + """
GREETING = "hello from the script"

class Greeter(Actor):
    @endpoint
    def greet(self):
        return GREETING

if __name__ == "__main__":
    with this_host().spawn_procs() as procs:
        print(procs.spawn("greeter", Greeter).greet.call_one().get(30))
"""
    )
    assert done.stdout == "hello from the script\n"


def test_nothing_works_after_the_end_and_it_says_so(script):
    done = script(
        PRELUDE
        + """
if __name__ == "__main__":
    procs = main()
    shutdown_context().get()
    for call in (lambda: this_host().spawn_procs(), lambda: this_proc().spawn("p", Pids)):
        try:
            call()
        except RuntimeError as error:
            print(error)
"""
    )
    assert done.stdout.splitlines()[1:] == [done.stdout.splitlines()[1]] * 2
    assert "shut down" in done.stdout


def test_who_waits_for_a_port_when_everything_ends_learns_it_every_time(script):
    done = script(
        """
        from procession.actor import Channel, SupervisionError, shutdown_context

        _, receiver = Channel.open()
        waiting = receiver.recv()
        shutdown_context().get()
        for future in (waiting, receiver.recv(), receiver.recv()):
            try:
                future.get(10)
            except SupervisionError as error:
                print(error)
        """
    )
    assert done.stdout.count("was shut down") == 3


def test_a_forked_child_is_refused_and_its_parent_goes_on(script):
    done = script(
        PRELUDE
        + """
if __name__ == "__main__":
    procs = main()
    pids = procs.spawn("pids", Pids)
    future = pids.pid.call()
    child = os.fork()
    if child == 0:
        for call in (lambda: pids.pid.call(), lambda: future.get(5), lambda: this_host().spawn_procs(), procs.exits, main):
            try:
                call()
            except RuntimeError as error:
                print("refused:", "fork" in str(error), flush=True)
        sys.exit(4)
    print("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    print(len(list(pids.pid.call().get(10).values())), "answers")
"""
    )
    assert done.stdout.splitlines()[1:] == ["refused: True"] * 5 + ["child ended with 4", "2 answers"]


def test_a_proc_that_nobody_launched_says_so():
    done = subprocess.run([sys.executable, "-m", "procession._proc_main"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "started by a launcher only" in done.stderr


def test_a_proc_with_a_payload_that_leads_nowhere_says_so():
    env = {**os.environ, "PROCESSION_BOOTSTRAP": "not a payload"}
    done = subprocess.run(
        [sys.executable, "-m", "procession._proc_main"], capture_output=True, text=True, timeout=30, env=env
    )
    assert done.returncode == 1
    assert "cannot reach the host" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault("F30")
def test_a_keyboard_interrupt_ends_a_program_that_waits():
    code = PRELUDE + "main(); this_proc().spawn('p', Pids).sleep.call_one().get()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pids = process.stdout.readline().split()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert not any(alive(pid) for pid in pids)

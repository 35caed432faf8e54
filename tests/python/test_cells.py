"""Cells of a notebook that are interrupted in a real kernel, which answers all of them whenever that is."""

import json

KERNEL = """
    import contextlib, json
    from jupyter_client.manager import KernelManager

    @contextlib.contextmanager
    def kernel():
        manager = KernelManager(transport="ipc")
        manager.start_kernel()
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=40)
            yield manager, client
        finally:
            client.stop_channels()
            manager.shutdown_kernel()

    def run(client, code, hook=lambda message: None):
        content = client.execute_interactive(code, timeout=40, output_hook=hook)["content"]
        return content.get("ename", content["status"])

    FOLLOWED = '''
    import asyncio, threading, time
    from procession import _cells
    _cells.follow()

    def often():
        while not enough.wait(0.001):
            _cells.interrupt()

    enough = threading.Event()
    thread = threading.Thread(target=often, daemon=True)
    '''
"""

AT_ANY_MOMENT = """
    with kernel() as (manager, client):
        run(client, FOLLOWED)
        said = [run(client, "thread.start()")]
        said += [run(client, ("sum(range(20_000))", "1 + 1")[n % 2]) for n in range(40)]
        while run(client, "enough.set()") != "ok":
            pass
        print(json.dumps([sorted(set(said)), run(client, "thread.join()")]))
"""


def test_a_kernel_answers_each_cell_at_whatever_moment_it_is_interrupted(script):
    said, last = json.loads(script(KERNEL + AT_ANY_MOMENT).stdout.splitlines()[-1])
    assert set(said) <= {"ok", "KeyboardInterrupt"}
    assert "KeyboardInterrupt" in said
    assert last == "ok"


WHILE_IT_WAITS = """
    WAITS = "{}; print('here', flush=True); {}; print('not interrupted')"

    with kernel() as (manager, client):
        run(client, FOLLOWED)
        run(client, "def interrupts(): ready.wait(); _cells.interrupt()")
        said = []
        for first, waits in (
            ("ready.set()", "time.sleep(30)"),
            ("ready.set()", "await asyncio.sleep(30)"),
            ("get_ipython().run_cell('1'); ready.set()", "time.sleep(30)"),
        ):
            run(client, "ready = threading.Event(); threading.Thread(target=interrupts).start()")
            said.append(run(client, WAITS.format(first, waits)))

        def somebody(message):
            if "here" in message["content"].get("text", ""):
                manager.interrupt_kernel()

        said.append(run(client, WAITS.format("1", "time.sleep(30)"), somebody))
        print(json.dumps(said))
"""


def test_what_a_cell_waits_for_is_interrupted_by_a_failure_and_by_somebody(script):
    said = json.loads(script(KERNEL + WHILE_IT_WAITS).stdout.splitlines()[-1])
    assert said == ["KeyboardInterrupt", "CancelledError", "KeyboardInterrupt", "KeyboardInterrupt"]

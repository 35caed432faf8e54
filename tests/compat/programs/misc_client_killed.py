"""What a client that is killed had launched ends with it."""

import os
import signal
import subprocess
import sys
import time

from monarch.actor import Actor, endpoint, this_host

from facts import fact, lives

BETTER = {
    "what it had started lives on": [True, False, "what procs had started ends too, in sessions of their own as well"],
}


class Fine(Actor):
    @endpoint
    def start(self) -> list[int]:
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        return [os.getpid(), child.pid]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*this_host().spawn_procs().spawn("fine", Fine).start.call_one().get(), flush=True)
        time.sleep(60)
    client = subprocess.Popen([sys.executable, __file__, "client"], stdout=subprocess.PIPE, text=True)
    proc, grandchild = (int(word) for word in client.stdout.readline().split())
    fact("live", [lives(proc), lives(grandchild)])
    client.send_signal(signal.SIGKILL)
    until = time.monotonic() + 8
    while (lives(proc) or lives(grandchild)) and time.monotonic() < until:
        time.sleep(0.05)
    fact("the proc lives on", lives(proc))
    fact("what it had started lives on", lives(grandchild))

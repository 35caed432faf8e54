"""Where what an actor prints goes."""

import subprocess
import sys

from monarch.actor import Actor, endpoint, this_host

from facts import fact

DIFFERENT = {
    "shown by the client": [
        True,
        False,
        "the output of each proc is kept apart: procs.logs(), also as it comes, and log_dir",
    ],
}


class Talker(Actor):
    @endpoint
    def talk(self) -> None:
        print("printed by the actor", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        procs = this_host().spawn_procs()
        procs.spawn("talker", Talker).talk.call_one().get()
        procs.stop().get()
        sys.exit()
    client = subprocess.run([sys.executable, __file__, "client"], capture_output=True, text=True, timeout=30)
    fact("ends well", client.returncode)
    fact("shown by the client", "printed by the actor" in client.stdout)

"""`default_bootstrap_cmd` with another environment, and one for each point."""

import os

from monarch.actor import Actor, default_bootstrap_cmd, endpoint, this_host

from facts import fact, tried


class Reader(Actor):
    @endpoint
    def get(self, name: str) -> str | None:
        return os.environ.get(name)


if __name__ == "__main__":
    os.environ["COMPAT_GONE"] = "here"
    command = default_bootstrap_cmd()
    fact("environment", command.env)
    changed = command.with_env({"COMPAT_X": "1", "COMPAT_GONE": None})
    fact("is another", changed is not command)
    fact("as it was", command.env)
    readers = this_host().spawn_procs(bootstrap_command=changed).spawn("reader", Reader)
    fact("set", readers.get.call_one("COMPAT_X").get(timeout=20))
    fact("removed", readers.get.call_one("COMPAT_GONE").get(timeout=20))
    each = this_host().spawn_procs(
        per_host={"gpus": 2}, bootstrap_command=lambda point: command.with_env({"COMPAT_X": str(point["gpus"])})
    )
    tried("for each point", lambda: list(each.spawn("reader", Reader).get.call("COMPAT_X").get(timeout=20).values()))

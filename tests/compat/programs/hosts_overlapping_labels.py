"""Dimensions of procs with odd names, and orders."""

from monarch.actor import this_host

from facts import fact, tried

if __name__ == "__main__":
    fact("order is kept", list(this_host().spawn_procs(per_host={"z": 1, "a": 2}).sizes.items()))
    tried("positional", lambda: this_host().spawn_procs({"gpus": 2}).sizes)
    tried("with None", lambda: this_host().spawn_procs(None).sizes)
    tried("a bootstrap by position", lambda: this_host().spawn_procs({"gpus": 1}, None, "named").sizes)

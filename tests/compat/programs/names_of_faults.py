"""The public names that have to do with faults can be imported."""

import monarch.actor

from facts import fact

if __name__ == "__main__":
    for name in ("MeshFailure", "unhandled_fault_hook"):
        fact(name, hasattr(monarch.actor, name))

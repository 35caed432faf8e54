"""Security arguments of worker loops that nobody has are refused."""

from monarch.actor import attach_to_workers, run_worker_loop_forever

from facts import raises

BETTER = {
    "a private key": [
        "NotImplementedError",
        "ValueError",
        "it is the session key, without which nobody is trusted; this one is none",
    ],
}

if __name__ == "__main__":
    with raises("a private key"):
        run_worker_loop_forever(private_key=b"key", ca="trust_all_connections", address="ipc://somewhere")
    with raises("an authority"):
        attach_to_workers(ca=b"ca", workers=["ipc://somewhere"])

"""`enable_transport` before the first use, after it, and with another one."""

from monarch.actor import enable_transport, this_host

from facts import raises

if __name__ == "__main__":
    with raises("ipc"):
        enable_transport("ipc")
    with raises("ipc again"):
        enable_transport("ipc")
    with raises("another one"):
        enable_transport("tcp")
    with raises("one that is none"):
        enable_transport("pigeon")
    this_host()
    with raises("the same, after the first use"):
        enable_transport("ipc")
    with raises("another, after the first use"):
        enable_transport("tcp")

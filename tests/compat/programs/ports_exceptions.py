"""`Port.exception` is raised at the receiver."""

from monarch.actor import Channel

from facts import fact, kind, raises

if __name__ == "__main__":
    port, receiver = Channel[int].open()
    port.send(1)
    port.exception(ValueError("wrong"))
    port.send(2)
    fact("before", receiver.recv().get())
    try:
        receiver.recv().get()
    except Exception as error:
        fact("raised", kind(error))
        fact("its text has the message", "wrong" in str(error))
    fact("after", receiver.recv().get())
    with raises("as exception()"):
        port.exception(KeyError("k"))
        error = receiver.recv().exception()
        raise error

"""Ports travel in results and inside of other values, and many hold the same one."""

from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact


class Mailbox(Actor):
    @endpoint
    def keep(self, box: dict) -> dict:
        return {"again": box["port"]}

    @endpoint
    def put(self, port: Port[int], value: int) -> None:
        port.send(value)


if __name__ == "__main__":
    mailbox = this_host().spawn_procs(per_host={"gpus": 2}).spawn("mailbox", Mailbox)
    port, receiver = Channel[int].open()
    again = mailbox.slice(gpus=0).keep.call_one({"port": port}).get()["again"]
    again.send(1)
    fact("came back", receiver.recv().get(timeout=10))
    mailbox.put.call(again, 2).get()
    fact("from two actors", [receiver.recv().get(timeout=10) for _ in range(2)])

import os
import socket
import sys

from procession.actor import Actor, endpoint


class Here(Actor):
    @endpoint
    def where(self):
        return socket.gethostname(), os.getpid()

    @endpoint
    def interpreter(self):
        return sys.executable, os.environ.get("PYTHONPATH")

    @endpoint
    def length(self, data):
        return len(data)

    @endpoint
    def wheres_of(self, others):
        return sorted(host for host, _ in others.where.call().get(30).values())

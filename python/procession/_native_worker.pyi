"""The part of `_native` that is about workers and zygotes; there is no module of this name when it runs."""

from os import PathLike
from typing import final

from procession._native import Launcher, Waiter

@final
class SessionKey:
    """What machines share whose ends trust each other. `field` is what errors call it, which are `InvalidArgument`."""

    @staticmethod
    def random() -> SessionKey: ...
    @staticmethod
    def from_bytes(field: str, bytes: bytes) -> SessionKey:
        """32 bytes, or 64 hex digits."""
    @staticmethod
    def read(field: str, path: str | PathLike[str]) -> SessionKey:
        """From a file that nobody else can read."""
    @staticmethod
    def from_environment(field: str) -> SessionKey: ...
    def write(self, path: str | PathLike[str]) -> None:
        """To a new file that nobody else can read."""
    def text(self) -> str:
        """As 64 hex digits, for whoever keeps it."""

@final
class WorkerServer:
    """This machine, as long as it is served."""

    @property
    def address(self) -> str:
        """`host:port`, with the port that was bound."""
    def wait(self, timeout: float | None) -> bool:
        """Until a client has asked for its end, or it has ended; False at `timeout` (seconds). Handles signals."""
    def asked(self) -> Waiter:
        """Done when a client has asked for its end, or it has ended."""
    def stop(self) -> None:
        """Kills all that was launched; returns when nothing of it is left. Idempotent."""

def serve_worker(
    address: str, key: SessionKey, lease: float, until_asked: bool, interpreter: str | None
) -> WorkerServer:
    """Serves this machine on a thread of its own. `lease`: seconds that a client may be without a connection.

    `interpreter`: what runs Python here, for clients who ask. `until_asked`: clients may ask for its end. Raises `InvalidArgument` for what is no address, `RuntimeError` where it cannot listen.
    """

def serve_stdio(interpreter: str | None, lease: float) -> str:
    """Launches procs for whoever is at the other end of stdin and stdout, until that ends; gives why it did. RuntimeError."""

@final
class Worker:
    """A machine that is served elsewhere, connected."""

    @property
    def address(self) -> str: ...
    @property
    def interpreter(self) -> str | None:
        """What runs Python there, if it says so."""
    def launcher(self) -> Launcher: ...
    def close(self) -> Waiter:
        """Closes the connection, at which all ends that was launched over it."""
    def shut_down(self) -> Waiter:
        """Asks it to end."""

def connect_workers(
    addresses: list[str], key: SessionKey, within: float, lease: float, bind: str | None, advertise: str | None
) -> list[Worker | str]:
    """Dials all at the same time, within so many seconds; of each the connection, or why there is none."""

@final
class Zygote:
    """One process that a launcher starts, and what that launches; nothing starts before its first launch."""

    def __new__(cls, name: str, program: str, args: list[str], through: Launcher, owner: str | None) -> Zygote:
        """`owner`: a proc of this host; it closes with that. RuntimeError in a proc that is no host."""
    def launch_through(self, launcher: Launcher) -> None:
        """The next process is launched through that."""
    def launcher(self) -> Launcher: ...
    def close(self) -> Waiter:
        """Has the process end once nothing runs that it has launched; done then."""

@final
class Pool:
    """Processes that a launcher keeps warm, so many at a time, and what is launched in them, one proc each."""

    def __new__(cls, name: str, program: str, args: list[str], through: Launcher, owner: str | None, size: int) -> Pool:
        """As of `Zygote`; they are started at once."""
    def launch_through(self, launcher: Launcher) -> None:
        """The next processes are launched through that."""
    def launcher(self) -> Launcher: ...
    def warm(self) -> Waiter:
        """Done when all that wait are up; fails when one cannot be."""
    def close(self) -> Waiter:
        """Ends those that wait; done then. Those that have a proc end with it."""

def serve_launches(interpreter: str) -> None:
    """In a proc, before it is ready: launches for its host, as a zygote. RuntimeError where it cannot."""

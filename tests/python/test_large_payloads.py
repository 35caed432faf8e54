"""Arrays, buffers and bytes so large that processes of one machine share them instead of copying."""

import ctypes
import os
import pickle
import time

import numpy as np
import pytest

from procession.actor import Actor, endpoint, this_host

LEAST = 512 * 1024
MEBI = 1 << 20
SHARED = "memfd:procession-payloads"


def mappings() -> list[tuple[int, int]]:
    """Where this process has mapped memory of payloads."""
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[0].split("-") for line in maps if SHARED in line]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]


def is_shared(array: np.ndarray) -> bool:
    """Whether the array lies in memory that its sender has written: nobody has copied it on the way."""
    start = array.__array_interface__["data"][0]
    return any(low <= start and start + array.nbytes <= high for low, high in mappings())


class Keeper(Actor):
    """Looks at what it gets, and keeps some of it."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    @endpoint
    def look(self, array: np.ndarray) -> tuple[bool, bool, int]:
        return is_shared(array), array.flags.writeable, int(array.sum())

    @endpoint
    def echo(self, value):
        return value

    @endpoint
    def keep(self, array: np.ndarray) -> None:
        self.kept.append(array)

    @endpoint
    def drop(self) -> None:
        self.kept.clear()

    @endpoint
    def add(self, index: int, number: int) -> int:
        self.kept[index] += number
        return int(self.kept[index].sum())

    @endpoint
    def sums(self) -> list[int]:
        return [int(array.sum()) for array in self.kept]

    @endpoint
    def make(self, count: int, number: int) -> np.ndarray:
        return np.full(count, number, dtype=np.uint8)

    @endpoint
    def pass_on(self, other: "Keeper", count: int, number: int) -> tuple[bool, bool, int]:
        return other.look.call_one(np.full(count, number, dtype=np.uint8)).get(30)

    @endpoint
    def mapped(self) -> int:
        return len(mappings())

    @endpoint
    def forked_sum(self, started: int, finish: int) -> None:
        """A child looks at the kept array when it is told to, and writes what it saw."""
        self.child = os.fork()
        if self.child == 0:
            os.write(started, b"!")
            os.read(finish, 1)
            os._exit(7 if int(self.kept[0].sum()) == 3 * self.kept[0].size else 8)

    @endpoint
    def reap(self, finish: int) -> int:
        os.write(finish, b"!")
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])

    @endpoint
    def pipe(self) -> tuple[int, int]:
        return os.pipe()

    @endpoint
    def wait_for(self, started: int) -> None:
        os.read(started, 1)


@pytest.fixture
def keepers():
    with this_host().spawn_procs(per_host={"gpus": 2}) as procs:
        meshes = procs.spawn("keeper", Keeper)
        yield [meshes.slice(gpus=0), meshes.slice(gpus=1)]


@pytest.mark.parametrize("size", [LEAST - 1, LEAST, LEAST + 1, MEBI, 5 * MEBI + 3])
def test_arrays_arrive_equal_and_writable_and_from_512_kib_on_uncopied(keepers, size):
    first, second = keepers
    for number in (1, 2, 3):
        shared, writable, total = first.look.call_one(np.full(size, number, dtype=np.uint8)).get(30)
        assert (writable, total) == (True, size * number)
        assert shared == (size >= LEAST)
        shared, writable, total = first.pass_on.call_one(second, size, number).get(30)
        assert (writable, total) == (True, size * number)
        assert shared == (size >= LEAST)
        back = first.make.call_one(size, number).get(30)
        assert back.flags.writeable
        assert int(back.sum()) == size * number
        assert is_shared(back) == (size >= LEAST)


def test_several_arrays_of_one_message_are_all_uncopied(keepers):
    arrays = [np.full(MEBI, number, dtype=np.uint8) for number in range(5)]
    back = keepers[0].echo.call_one({"arrays": arrays, "small": np.arange(10)}).get(30)
    assert all(np.array_equal(*pair) and is_shared(pair[1]) for pair in zip(arrays, back["arrays"], strict=True))
    assert back["small"].tolist() == list(range(10))


def test_what_one_receiver_writes_no_other_one_sees_nor_the_sender(keepers):
    array = np.full(MEBI, 1, dtype=np.uint8)
    for keeper in keepers:
        keeper.keep.call_one(array).get(30)
        keeper.keep.call_one(array).get(30)
    assert keepers[0].add.call_one(0, 4).get(30) == 5 * MEBI
    assert keepers[0].sums.call_one().get(30) == [5 * MEBI, MEBI]
    assert keepers[1].sums.call_one().get(30) == [MEBI, MEBI]
    assert int(array.sum()) == MEBI


def test_receivers_of_one_broadcast_write_each_to_their_own():
    with this_host().spawn_procs(per_host={"gpus": 3}) as procs:
        keepers = procs.spawn("keeper", Keeper)
        keepers.keep.call(np.full(2 * MEBI, 1, dtype=np.uint8)).get(30)
        assert keepers.slice(gpus=1).add.call_one(0, 1).get(30) == 4 * MEBI
        sums = list(keepers.sums.call().get(30).values())
    assert sums == [[2 * MEBI], [4 * MEBI], [2 * MEBI]]


def test_what_is_kept_stays_as_it_is_whatever_is_sent_after_it(keepers):
    for number in range(8):
        keepers[0].keep.call_one(np.full(MEBI, number, dtype=np.uint8)).get(30)
    for number in range(8, 40):
        keepers[1].look.call_one(np.full(MEBI, number, dtype=np.uint8)).get(30)
    assert keepers[0].sums.call_one().get(30) == [number * MEBI for number in range(8)]


def test_what_is_kept_outlives_its_sender(keepers):
    keeper = keepers[0]
    with this_host().spawn_procs(name="senders") as procs:
        sender = procs.spawn("sender", Keeper)
        kept = [sender.make.call_one(MEBI, number).get(30) for number in range(3)]
        keeper.keep.call_one(kept[2]).get(30)
        sender.stop().get(30)
        procs.kill().get(30)
        procs.wait().get(30)
    for number in range(20):
        keeper.look.call_one(np.full(MEBI, 100 + number, dtype=np.uint8)).get(30)
    assert [int(array.sum()) for array in kept] == [number * MEBI for number in range(3)]
    kept[1] += 1
    assert int(kept[1].sum()) == 2 * MEBI
    assert keeper.sums.call_one().get(30) == [2 * MEBI]


def test_a_forked_child_goes_on_seeing_what_its_parent_has_dropped(keepers):
    keeper = keepers[0]
    keeper.keep.call_one(np.full(MEBI, 3, dtype=np.uint8)).get(30)
    started, finish = keeper.pipe.call_one().get(30), keeper.pipe.call_one().get(30)
    keeper.forked_sum.call_one(started[1], finish[0]).get(30)
    keeper.wait_for.call_one(started[0]).get(30)
    keeper.drop.call_one().get(30)
    for _ in range(10):
        keeper.look.call_one(np.full(MEBI, 9, dtype=np.uint8)).get(30)
    assert keeper.reap.call_one(finish[1]).get(30) == 7


@pytest.mark.parametrize("size", [LEAST - 200, LEAST, 3 * MEBI])
def test_bytes_and_text_arrive_equal(keepers, size):
    value = {"bytes": os.urandom(size), "text": "ä" * size, "array": bytearray(os.urandom(size)), "end": [1, "two"]}
    for _ in range(3):
        assert keepers[0].echo.call_one(value).get(30) == value


class Wrapped:
    """A buffer that travels beside its pickle."""

    def __init__(self, data) -> None:
        self.data = data

    def __reduce_ex__(self, protocol):
        return Wrapped, (pickle.PickleBuffer(self.data),)


def test_buffers_of_a_users_own_class_are_seen_where_they_are(keepers):
    back = keepers[0].echo.call_one(Wrapped(bytearray(b"x" * MEBI))).get(30)
    view = memoryview(back.data)
    assert not view.readonly
    assert bytes(view) == b"x" * MEBI
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    assert any(low <= address < high for low, high in mappings())


def test_memory_that_nobody_uses_is_given_back(keepers):
    keepers[0].pass_on.call_one(keepers[1], MEBI, 1).get(30)
    keepers[0].echo.call_one(np.zeros(MEBI, dtype=np.uint8)).get(30)
    deadline = time.monotonic() + 60
    while mappings() or keepers[0].mapped.call_one().get(30) or keepers[1].mapped.call_one().get(30):
        assert time.monotonic() < deadline
        time.sleep(0.1)

"""The gaps between what an interpreter has allocated, taken for good before it is forked.

A fork that allocates a few bytes in a page which it shares has all of that page copied. With no gaps left its allocations lie
side by side, in pages that nobody has used.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

SMALL = (*range(512, 32, -16), 16)
"""What the interpreter gives from pools of blocks of one size, in bytes; the rest comes from the C library. Those of 32 are used
here meanwhile, for the addresses of the others."""
POOL, HEAD = 16 << 10, 64
MOST = 4 << 20
"""Taken of one size, in bytes, before it is believed that there is no end, as where the interpreter has another allocator."""
LARGE = (*(1 << power for power in range(16, 10, -1)), *range(1032, 0, -16))


def fill() -> None:
    with suppress(AttributeError):  # an interpreter or a C library without these
        _fill_pools()
    with suppress(AttributeError):
        _fill_heap()


def _fill_pools() -> None:
    """Until a pool is given from its beginning to its end: those with gaps are used up first."""
    allocate, free = ctypes.pythonapi.PyObject_Malloc, ctypes.pythonapi.PyObject_Free
    allocate.restype, allocate.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    free.restype, free.argtypes = None, (ctypes.c_void_p,)
    for size in SMALL:
        whole = (POOL - HEAD) // size
        taken: list[int] = []
        in_a_row = 1
        while in_a_row < whole and len(taken) * size < MOST:
            at = allocate(size)
            in_a_row = in_a_row + 1 if taken and at == taken[-1] + size else 1
            taken.append(at)
        found = in_a_row >= whole
        for at in taken[-in_a_row:] if found else taken:
            free(at)
        if not found:
            return


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (*"abcdefgh", "free", "top")]


def _fill_heap() -> None:
    """Until what is given lies above all that was ever given; the largest first, since they are split for smaller ones."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo2
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, (ctypes.c_ssize_t,)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)
    known = libc.mallinfo2()
    top, left = libc.sbrk(0) - known.top, known.free + MOST  # what is kept for each thread does not count as free
    for size in LARGE:
        while (at := libc.malloc(size)) is not None and at < top and left > 0:
            left -= size
        libc.free(at)

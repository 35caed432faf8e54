"""What a cancelled call raises; apart from the other errors, because its bases take long to import."""

from __future__ import annotations

import asyncio
from concurrent import futures


class CallCancelled(asyncio.CancelledError, futures.CancelledError):
    """A call that its caller cancelled, by `Future.cancel`. To asyncio and to threads it is their own CancelledError."""

    __module__ = "procession.errors"
